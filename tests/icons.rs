//! The icon's states are told apart by shape alone: every set is complete, and no two silhouettes are alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

const STATES: [&str; 7] = ["needs-attention", "cannot-reach", "no-news", "paused", "working", "starting", "up-to-date"];
const SETS: [(&str, &[u32]); 3] =
    [("light", &[16, 20, 22, 24, 32]), ("dark", &[16, 20, 22, 24, 32]), ("template", &[22, 44])];

fn icons() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("icons")
}

/// Red, green, blue and alpha of each pixel.
fn pixels(path: &Path, size: u32) -> Vec<[u8; 4]> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.width, info.height), (size, size), "{}", path.display());
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgba, png::BitDepth::Eight), "{}", path.display());
    bytes.chunks_exact(4).map(|pixel| pixel.try_into().unwrap()).collect()
}

/// What is left without colour: ink or none.
fn silhouette(pixels: &[[u8; 4]]) -> Vec<bool> {
    pixels.iter().map(|pixel| pixel[3] > 127).collect()
}

#[test]
fn every_set_is_complete_and_holds_nothing_else() {
    for (set, sizes) in SETS {
        let expected: BTreeSet<String> =
            STATES.iter().flat_map(|state| sizes.iter().map(move |size| format!("{state}-{size}.png"))).collect();
        let there: BTreeSet<String> = fs::read_dir(icons().join("tray").join(set))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(there, expected, "{set}: `node icons/render.mjs` renders them");
    }
    for state in STATES {
        assert!(icons().join("tray/source").join(format!("{state}.svg")).is_file(), "{state} has no source");
    }
}

#[test]
fn no_two_states_share_a_silhouette() {
    for (set, sizes) in SETS {
        for size in sizes {
            let mut shapes = BTreeMap::new();
            for state in STATES {
                let path = icons().join("tray").join(set).join(format!("{state}-{size}.png"));
                let shape = silhouette(&pixels(&path, *size));
                let ink = shape.iter().filter(|ink| **ink).count();
                assert!(ink * 8 > shape.len(), "{set} {state} {size} is too faint: {ink} pixels");
                shapes.insert(state, shape);
            }
            for (state, shape) in &shapes {
                for (other, another) in
                    shapes.range::<str, _>((std::ops::Bound::Excluded(*state), std::ops::Bound::Unbounded))
                {
                    let apart = shape.iter().zip(another).filter(|(one, two)| one != two).count();
                    // A fifth of all pixels is a difference that a glance sees.
                    assert!(apart * 5 > shape.len(), "{set} {size}: {state} and {other} differ in {apart} pixels only");
                }
            }
        }
    }
}

#[test]
fn colour_comes_second() {
    for state in STATES {
        for size in [16, 20, 22, 24, 32] {
            let of = |set| pixels(&icons().join("tray").join(set).join(format!("{state}-{size}.png")), size);
            assert_eq!(silhouette(&of("light")), silhouette(&of("dark")), "{state} {size}");
        }
        for size in [22, 44] {
            let template = pixels(&icons().join("tray/template").join(format!("{state}-{size}.png")), size);
            assert!(template.iter().all(|[r, g, b, _]| (r, g, b) == (&0, &0, &0)), "{state}: macOS colours it itself");
        }
    }
}

#[test]
fn the_program_has_its_icon_in_every_form() {
    for (name, size) in [("32x32.png", 32), ("128x128.png", 128), ("128x128@2x.png", 256), ("icon.png", 512)] {
        let ink = silhouette(&pixels(&icons().join(name), size)).into_iter().filter(|ink| *ink).count();
        assert!(ink > 0, "{name} is empty");
    }
    let start = |name: &str| fs::read(icons().join(name)).unwrap()[..4].to_owned();
    assert_eq!(start("icon.icns"), b"icns");
    assert_eq!(start("icon.ico"), [0, 0, 1, 0]);
}
