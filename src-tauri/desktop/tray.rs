//! The icon and its menu, made once: afterwards only texts change, what is enabled or checked, and the icon with the state. On Linux
//! there are no clicks on the icon itself and no tooltip; the menu's first line says what the tooltip says elsewhere.

use std::{collections::BTreeMap, path::Path};

use tauri::{
    AppHandle, Wry,
    menu::{CheckMenuItem, IsMenuItem, Menu, MenuItem, Submenu},
    tray::{TrayIcon, TrayIconBuilder},
};
use tokio::sync::mpsc;

use super::{icon, session::Order};
use crate::view::tray::{Entry, Id, Kind, Tray};

enum Item {
    Plain(MenuItem<Wry>),
    Check(CheckMenuItem<Wry>),
    Submenu(Submenu<Wry>),
}

impl Item {
    fn set_text(&self, text: &str) -> tauri::Result<()> {
        match self {
            Item::Plain(item) => item.set_text(text),
            Item::Check(item) => item.set_text(text),
            Item::Submenu(item) => item.set_text(text),
        }
    }

    fn set_enabled(&self, enabled: bool) -> tauri::Result<()> {
        match self {
            Item::Plain(item) => item.set_enabled(enabled),
            Item::Check(item) => item.set_enabled(enabled),
            Item::Submenu(item) => item.set_enabled(enabled),
        }
    }
}

pub struct Icon {
    icon: TrayIcon,
    items: BTreeMap<Id, Item>,
    shown: Tray,
    #[cfg(windows)]
    look: icon::Look,
}

impl Icon {
    /// On the main thread. `folder`: where Linux puts the picture for the panel to read.
    pub fn new(app: &AppHandle, tray: Tray, folder: &Path, orders: mpsc::Sender<Order>) -> tauri::Result<Self> {
        let mut items = BTreeMap::new();
        let top = make(app, &tray.menu, &mut items)?;
        let menu = Menu::with_items(app, &top.iter().map(|item| &**item).collect::<Vec<_>>())?;
        #[cfg(windows)]
        let look = look(app);
        #[cfg(windows)]
        let picture = icon::of(tray.state, look);
        #[cfg(not(windows))]
        let picture = icon::of(tray.state);
        let chosen = orders.clone();
        let icon = TrayIconBuilder::with_id("chart-relay")
            .icon(picture)
            .icon_as_template(cfg!(target_os = "macos"))
            .tooltip(&tray.title)
            .temp_dir_path(folder)
            .menu(&menu)
            // macOS opens the menu at any click; Windows has the window for the left one.
            .show_menu_on_left_click(cfg!(not(windows)))
            .on_menu_event(move |_, event| {
                if let Some(id) = Id::parse(event.id().as_ref()) {
                    // Full only if the session hangs; then nothing could be done anyway.
                    let _ = chosen.try_send(Order::Chosen(id));
                }
            })
            .on_tray_icon_event(move |_, event| {
                use tauri::tray::{MouseButton, MouseButtonState, TrayIconEvent};
                let up = matches!(
                    event,
                    TrayIconEvent::Click { button: MouseButton::Left, button_state: MouseButtonState::Up, .. }
                );
                if up && cfg!(windows) {
                    let _ = orders.try_send(Order::Chosen(Id::Open));
                }
            })
            .build(app)?;
        #[cfg(windows)]
        return Ok(Self { icon, items, shown: tray, look });
        #[cfg(not(windows))]
        Ok(Self { icon, items, shown: tray })
    }

    /// On the main thread. What the person did to a check mark is overwritten: the session decides.
    pub fn show(&mut self, app: &AppHandle, tray: &Tray) -> tauri::Result<()> {
        self.picture(app, tray)?;
        if tray.title != self.shown.title {
            self.icon.set_tooltip(Some(&tray.title))?;
        }
        let before: BTreeMap<_, _> = self.shown.entries().map(|entry| (entry.id, entry)).collect();
        for entry in tray.entries() {
            let before = before.get(&entry.id);
            let text = before.is_none_or(|before| before.text != entry.text);
            let enabled = before.is_none_or(|before| before.enabled != entry.enabled);
            let Some(item) = self.items.get(&entry.id) else {
                tracing::error!(entry = entry.id.as_str(), "the tray's menu has changed its shape");
                continue;
            };
            if text {
                item.set_text(&entry.text)?;
            }
            if enabled {
                item.set_enabled(entry.enabled)?;
            }
            if let (Item::Check(item), Kind::Check { checked }) = (item, &entry.kind)
                && item.is_checked()? != *checked
            {
                item.set_checked(*checked)?;
            }
        }
        self.shown = tray.clone();
        Ok(())
    }

    #[cfg(not(windows))]
    fn picture(&mut self, _app: &AppHandle, tray: &Tray) -> tauri::Result<()> {
        // Each change writes a file on Linux.
        if tray.state != self.shown.state {
            self.icon.set_icon_with_as_template(Some(icon::of(tray.state)), cfg!(target_os = "macos"))?;
        }
        Ok(())
    }

    #[cfg(windows)]
    fn picture(&mut self, app: &AppHandle, tray: &Tray) -> tauri::Result<()> {
        if tray.state != self.shown.state {
            self.look = look(app);
            self.icon.set_icon(Some(icon::of(tray.state, self.look)))?;
        }
        Ok(())
    }
}

#[cfg(windows)]
fn look(app: &AppHandle) -> icon::Look {
    let monitor = app.primary_monitor().ok().flatten();
    icon::Look::now(monitor.map_or(1.0, |monitor| monitor.scale_factor()))
}

fn make(
    app: &AppHandle,
    entries: &[Entry],
    items: &mut BTreeMap<Id, Item>,
) -> tauri::Result<Vec<Box<dyn IsMenuItem<Wry>>>> {
    let mut made: Vec<Box<dyn IsMenuItem<Wry>>> = Vec::new();
    for Entry { id, text, enabled, kind } in entries {
        let name = id.as_str();
        let item = match kind {
            Kind::Plain => {
                let item = MenuItem::with_id(app, name, text, *enabled, None::<&str>)?;
                made.push(Box::new(item.clone()));
                Item::Plain(item)
            }
            Kind::Check { checked } => {
                let item = CheckMenuItem::with_id(app, name, text, *enabled, *checked, None::<&str>)?;
                made.push(Box::new(item.clone()));
                Item::Check(item)
            }
            Kind::Submenu(inside) => {
                let inside = make(app, inside, items)?;
                let inside: Vec<_> = inside.iter().map(|item| &**item).collect();
                let item = Submenu::with_id_and_items(app, name, text, *enabled, &inside)?;
                made.push(Box::new(item.clone()));
                Item::Submenu(item)
            }
        };
        items.insert(*id, item);
    }
    Ok(made)
}
