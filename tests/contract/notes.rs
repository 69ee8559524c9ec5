//! Notes: texts under names, durable.

use crate::{
    suite,
    worlds::{Lasting, Memory, Sqlite, World},
};

suite!(sqlite: crate::notes::Sqlite => the_last_text_under_a_name_stays notes_are_there_after_a_crash);
suite!(memory: crate::notes::Memory => the_last_text_under_a_name_stays);

async fn the_last_text_under_a_name_stays(world: impl World) {
    let notes = world.notes();
    assert_eq!(notes.read("pause").await.unwrap(), None);
    notes.write("pause", Some("one")).await.unwrap();
    notes.write("journal", Some("{\"ä\":\"'\"}")).await.unwrap();
    notes.write("pause", Some("two")).await.unwrap();
    assert_eq!(notes.read("pause").await.unwrap().as_deref(), Some("two"));
    notes.write("pause", None).await.unwrap();
    notes.write("never", None).await.unwrap();
    assert_eq!(notes.read("pause").await.unwrap(), None);
    assert_eq!(notes.read("journal").await.unwrap().as_deref(), Some("{\"ä\":\"'\"}"));
}

async fn notes_are_there_after_a_crash(world: impl Lasting) {
    let notes = world.notes();
    for number in 0..20 {
        notes.write("count", Some(&number.to_string())).await.unwrap();
    }
    let world = world.crash().await;
    assert_eq!(world.notes().read("count").await.unwrap().as_deref(), Some("19"));
}
