import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// `--mode mock` builds the same window with a synthetic clinic behind it, for a browser and for the tests.
export default defineConfig(({ mode }) => ({
  plugins: [svelte()],
  clearScreen: false,
  build: {
    outDir: mode === 'mock' ? '../target/ui-mock' : 'dist',
    emptyOutDir: true,
    // The oldest web views that tauri runs on: WebKitGTK 2.40, macOS 13, WebView2.
    target: ['es2022', 'safari16.4', 'chrome110'],
    // The policy allows no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
}));
