import './style/tokens.css';
import './style/base.css';
import { mount } from 'svelte';
import App from './App.svelte';

// The synthetic clinic is left out of the real build: the mode is known when it is made.
if (import.meta.env.MODE === 'mock') (await import('./mock/clinic')).open();

mount(App, { target: document.body });
