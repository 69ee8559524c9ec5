//! What a desktop's panel does: it shows tray items and their menus, and notifications. This one remembers what it is told.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use zbus::{
    Connection,
    message::Header,
    names::OwnedUniqueName,
    proxy::{Builder, CacheProperties},
    zvariant::{OwnedValue, Value},
};

use crate::rig::{PATIENCE, until};

/// Where an item is: who registered it, and under which path.
type Place = (OwnedUniqueName, String);

#[derive(Debug)]
struct Watcher(watch::Sender<Vec<Place>>);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: String, #[zbus(header)] header: Header<'_>) {
        let sender = header.sender().unwrap().to_owned().into();
        let path = if service.starts_with('/') { service } else { "/StatusNotifierItem".to_owned() };
        self.0.send_modify(|items| items.push((sender, path)));
    }

    fn register_status_notifier_host(&self, _service: String) {}

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        self.0.borrow().iter().map(|(sender, path)| format!("{sender}{path}")).collect()
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

/// What somebody at the desk would have seen popping up: everything of it that is text.
#[derive(Debug, Default)]
struct Notifications(Arc<Mutex<Vec<String>>>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    #[allow(clippy::too_many_arguments, reason = "the standard has so many")]
    fn notify(
        &self,
        app: String,
        _replaces: u32,
        icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        _expires: i32,
    ) -> u32 {
        let mut hints: Vec<String> = hints.into_iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        hints.sort();
        let mut told = self.0.lock().unwrap();
        told.push([app, icon, summary, body, actions.join(" "), hints.join(" ")].join("\n"));
        u32::try_from(told.len()).unwrap()
    }

    fn close_notification(&self, _id: u32) {}

    fn get_capabilities(&self) -> Vec<String> {
        ["body", "actions", "persistence"].map(str::to_owned).into()
    }

    fn get_server_information(&self) -> (String, String, String, String) {
        ("test".to_owned(), "test".to_owned(), "1".to_owned(), "1.2".to_owned())
    }
}

pub(crate) struct Panel {
    connection: Connection,
    items: watch::Receiver<Vec<Place>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Panel {
    /// Takes the panel's place on this bus.
    pub(crate) async fn on(bus: &str) -> Self {
        let (send, items) = watch::channel(Vec::new());
        let told = Arc::<Mutex<Vec<String>>>::default();
        let connection = zbus::connection::Builder::address(bus)
            .unwrap()
            .serve_at("/StatusNotifierWatcher", Watcher(send))
            .unwrap()
            .serve_at("/org/freedesktop/Notifications", Notifications(told.clone()))
            .unwrap()
            .name("org.kde.StatusNotifierWatcher")
            .unwrap()
            .name("org.freedesktop.Notifications")
            .unwrap()
            .build()
            .await
            .unwrap();
        Self { connection, items, told }
    }

    /// Every notification so far.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// The tray item that was registered last; waits for the first.
    pub(crate) async fn item(&self) -> Item {
        let mut items = self.items.clone();
        let found = tokio::time::timeout(PATIENCE, items.wait_for(|items| !items.is_empty())).await;
        let place = found.expect("an icon appears in the tray").unwrap().last().unwrap().clone();
        Item { connection: self.connection.clone(), place }
    }

    pub(crate) fn items(&self) -> usize {
        self.items.borrow().len()
    }
}

/// An icon in the tray.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    connection: Connection,
    place: Place,
}

impl Item {
    async fn proxy(&self, path: &str, interface: &'static str) -> zbus::Result<zbus::Proxy<'static>> {
        Builder::new(&self.connection)
            .destination(self.place.0.clone())?
            .path(path.to_owned())?
            .interface(interface)?
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    async fn property<T: TryFrom<OwnedValue, Error: Into<zbus::Error>>>(&self, name: &str) -> zbus::Result<T> {
        self.proxy(&self.place.1, "org.kde.StatusNotifierItem").await?.get_property(name).await
    }

    /// All that the item says in words.
    pub(crate) async fn words(&self) -> String {
        let mut said = Vec::new();
        for name in ["Id", "Category", "Status", "Title", "IconName", "IconAccessibleDesc", "XAyatanaLabel", "ToolTip"]
        {
            if let Ok(value) = self.property::<OwnedValue>(name).await {
                said.push(format!("{name}: {value:?}"));
            }
        }
        said.join("\n")
    }

    pub(crate) async fn status(&self) -> String {
        self.property("Status").await.unwrap()
    }

    /// The file with the picture.
    pub(crate) async fn picture(&self) -> Option<PathBuf> {
        self.property::<String>("IconName").await.ok().map(PathBuf::from)
    }

    /// The state whose picture it is, by the pixels. Linux gets the one for dark panels.
    pub(crate) async fn state(&self) -> Option<&'static str> {
        const STATES: [&str; 7] =
            ["needs-attention", "cannot-reach", "no-news", "paused", "working", "starting", "up-to-date"];
        let shown = pixels(&self.picture().await?)?;
        STATES.into_iter().find(|state| {
            let path = format!("{}/icons/tray/dark/{state}-24.png", env!("CARGO_MANIFEST_DIR"));
            pixels(path.as_ref()).as_ref() == Some(&shown)
        })
    }

    async fn menu_proxy(&self) -> zbus::Result<zbus::Proxy<'static>> {
        let path: zbus::zvariant::OwnedObjectPath = self.property("Menu").await?;
        self.proxy(path.as_str(), "com.canonical.dbusmenu").await
    }

    /// The menu, submenus behind their own entry.
    pub(crate) async fn menu(&self) -> Vec<Entry> {
        self.try_menu().await.unwrap()
    }

    async fn try_menu(&self) -> zbus::Result<Vec<Entry>> {
        type Layout = (u32, (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>));
        let menu = self.menu_proxy().await?;
        let (_, (_, _, children)): Layout = menu.call("GetLayout", &(0_i32, -1_i32, Vec::<&str>::new())).await?;
        let mut entries = Vec::new();
        for child in children {
            gather(&child, 0, &mut entries);
        }
        Ok(entries)
    }

    pub(crate) async fn entry(&self, label: &str) -> Option<Entry> {
        self.try_menu().await.ok()?.into_iter().find(|entry| entry.label.starts_with(label))
    }

    /// Chooses the entry whose label begins so, once it is enabled.
    pub(crate) async fn choose(&self, label: &str) {
        let entry = until(&format!("\"{label}\" can be chosen"), async || {
            self.entry(label).await.filter(|entry| entry.enabled)
        })
        .await;
        let menu = self.menu_proxy().await.unwrap();
        let _: () = menu.call("Event", &(entry.id, "clicked", Value::I32(0), 0_u32)).await.unwrap();
    }

    /// Waits until the icon shows this state, and gives the menu's first line.
    pub(crate) async fn shows(&self, state: &str) -> String {
        let last = Mutex::new(None);
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let shown = self.state().await;
                *last.lock().unwrap() = shown;
                if shown == Some(state) {
                    return self.menu().await[0].label.clone();
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        let Ok(line) = waited else {
            panic!("the tray does not show {state} but {:?}: {:?}", last.into_inner(), self.try_menu().await)
        };
        line
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    id: i32,
    pub(crate) label: String,
    pub(crate) enabled: bool,
    /// None: it is no check mark.
    pub(crate) checked: Option<bool>,
    pub(crate) depth: usize,
}

fn gather(value: &Value<'_>, depth: usize, entries: &mut Vec<Entry>) {
    let value = if let Value::Value(inner) = value { inner } else { value };
    let Value::Structure(item) = value else { panic!("an entry of a menu: {value:?}") };
    let [Value::I32(id), Value::Dict(properties), Value::Array(children)] = item.fields() else {
        panic!("an entry of a menu: {item:?}")
    };
    let mut entry = Entry { id: *id, label: String::new(), enabled: true, checked: None, depth };
    let mut is_check = false;
    for (name, value) in properties.iter() {
        let Value::Str(name) = name else { continue };
        let value = if let Value::Value(inner) = value { inner } else { value };
        match (name.as_str(), value) {
            // An underline before a letter is a key to press.
            ("label", Value::Str(label)) => entry.label = label.replace("__", "\0").replace('_', "").replace('\0', "_"),
            ("enabled", Value::Bool(enabled)) => entry.enabled = *enabled,
            ("toggle-type", Value::Str(_)) => is_check = true,
            ("toggle-state", Value::I32(state)) => entry.checked = Some(*state == 1),
            _ => {}
        }
    }
    if !is_check {
        entry.checked = None;
    }
    entries.push(entry);
    for child in children.iter() {
        gather(child, depth + 1, entries);
    }
}

fn pixels(path: &std::path::Path) -> Option<Vec<u8>> {
    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).ok()?)).read_info().ok()?;
    let mut bytes = vec![0; reader.output_buffer_size()?];
    reader.next_frame(&mut bytes).ok()?;
    Some(bytes)
}
