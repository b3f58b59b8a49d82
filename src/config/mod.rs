//! Flags, environment and configuration file, and every mistake in them at once.
//!
//! A setting stands in [`settings`] once: its key in the file, its flag and its variable follow from its name. Each part of the
//! program owns the type of its configuration; here they are filled. Only the programs import this module.

mod arguments;
mod gateway;
mod listeners;
mod mistake;
#[cfg(feature = "server")]
mod secret_file;
#[cfg(feature = "server")]
mod service;
mod setting;
pub mod settings;
mod sources;
#[cfg(feature = "server")]
mod store_location;
mod store_url;
#[cfg(feature = "server")]
mod stores;
mod upstream;
mod value;

pub use arguments::{Flags, Parsed, parse, with_settings};
pub use gateway::{GatewayParts, GatewayProgramConfig};
pub use mistake::{Mistake, Mistakes, Origin};
#[cfg(feature = "server")]
pub use service::ServiceConfig;
pub use setting::{AnySetting, SWITCH, Setting};
#[cfg(feature = "server")]
pub use store_location::StoreLocation;
#[cfg(feature = "server")]
pub use stores::{StoresConfig, UserStoreConfig};
pub use upstream::{InvalidUpstream, Upstream};

use crate::telemetry;
use sources::Values;

fn telemetry_options(values: &mut Values) -> Option<telemetry::Options> {
    let filter = values.take(&settings::LOG);
    let format = values.take(&settings::LOG_FORMAT);
    Some(telemetry::Options {
        filter: filter?,
        format: format?,
    })
}

/// Notes what is wrong with settings that this program has not taken: they stand in the file for another.
fn check_remaining(values: &mut Values) {
    for setting in settings::all() {
        values.check(setting);
    }
}
