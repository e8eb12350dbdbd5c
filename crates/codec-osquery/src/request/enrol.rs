//! Enrolment.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use crate::lenient::{Number, Text};

/// Longest fact about a host that is kept, in bytes.
const FACT_BYTES: usize = 1024;

/// An agent asks for a node key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The shared secret; may be empty.
    pub enroll_secret: String,
    /// What the agent calls itself, by its flag `host_identifier`. Cut at 1 KiB.
    pub host_identifier: String,
    /// Bits of [`Platform`].
    pub platform_type: u32,
    /// The first row of four tables.
    pub host_details: HostDetails,
}

/// The first row of four tables, all of it text; old agents leave out some or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDetails {
    /// `os_version`.
    pub os_version: BTreeMap<String, String>,
    /// `osquery_info`.
    pub osquery_info: BTreeMap<String, String>,
    /// `system_info`.
    pub system_info: BTreeMap<String, String>,
    /// `platform_info`.
    pub platform_info: BTreeMap<String, String>,
}

/// The platform of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Linux.
    Linux,
    /// macOS.
    Darwin,
    /// Windows.
    Windows,
    /// FreeBSD.
    FreeBsd,
    /// It did not say, or something else.
    Unknown,
}

impl Platform {
    /// The platform of a bit mask: POSIX 1, WINDOWS 2, BSD 4, LINUX 8, OSX 16, FREEBSD 32.
    #[must_use]
    pub fn from_mask(mask: u32) -> Self {
        match mask {
            mask if mask & 8 != 0 => Self::Linux,
            mask if mask & 16 != 0 => Self::Darwin,
            mask if mask & 2 != 0 => Self::Windows,
            mask if mask & 32 != 0 => Self::FreeBsd,
            _ => Self::Unknown,
        }
    }

    /// The word for it in artifacts and SQL; empty when unknown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Darwin => "darwin",
            Self::Windows => "windows",
            Self::FreeBsd => "freebsd",
            Self::Unknown => "",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    enroll_secret: Text<'a>,
    #[serde(borrow)]
    host_identifier: Text<'a>,
    platform_type: Number,
    #[serde(borrow)]
    host_details: Option<Tables<'a>>,
}

type Row<'a> = BTreeMap<Cow<'a, str>, Text<'a>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tables<'a> {
    #[serde(borrow)]
    os_version: Option<Row<'a>>,
    #[serde(borrow)]
    osquery_info: Option<Row<'a>>,
    #[serde(borrow)]
    system_info: Option<Row<'a>>,
    #[serde(borrow)]
    platform_info: Option<Row<'a>>,
}

impl EnrolRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not the JSON of an enrolment. Missing members are empty.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(body);
        let Members { enroll_secret, host_identifier, platform_type, host_details } =
            serde_json::from_str(&text)?;
        let details = host_details.unwrap_or_default();
        Ok(Self {
            enroll_secret: enroll_secret.0.into_owned(),
            host_identifier: cut(&host_identifier.0),
            platform_type: u32::try_from(platform_type.0).unwrap_or(0),
            host_details: HostDetails {
                os_version: own(details.os_version),
                osquery_info: own(details.osquery_info),
                system_info: own(details.system_info),
                platform_info: own(details.platform_info),
            },
        })
    }

    /// The platform, by the mask or else by what the host says of its system.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let of_mask = Platform::from_mask(self.platform_type);
        if of_mask != Platform::Unknown {
            return of_mask;
        }
        match self.host_details.os("platform") {
            "darwin" => Platform::Darwin,
            "windows" => Platform::Windows,
            "freebsd" => Platform::FreeBsd,
            "" => Platform::Unknown,
            _ => Platform::Linux,
        }
    }
}

fn own(row: Option<Row<'_>>) -> BTreeMap<String, String> {
    let row = row.unwrap_or_default().into_iter().take(64);
    row.map(|(name, value)| (cut(&name), cut(&value.0))).collect()
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(FACT_BYTES)].to_owned()
}

impl HostDetails {
    /// Name of the machine; empty when unknown, as are all the others.
    #[must_use]
    pub fn hostname(&self) -> &str {
        get(&self.system_info, "hostname")
    }

    /// Hardware UUID: equal on cloned machines.
    #[must_use]
    pub fn uuid(&self) -> &str {
        let of_system = get(&self.system_info, "uuid");
        if of_system.is_empty() { get(&self.osquery_info, "uuid") } else { of_system }
    }

    /// Random, one per database of an agent: tells clones apart.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        get(&self.osquery_info, "instance_id")
    }

    /// Version of osquery.
    #[must_use]
    pub fn version(&self) -> &str {
        get(&self.osquery_info, "version")
    }

    /// Serial number of the machine.
    #[must_use]
    pub fn serial(&self) -> &str {
        get(&self.system_info, "hardware_serial")
    }

    /// Architecture.
    #[must_use]
    pub fn arch(&self) -> &str {
        let of_system = get(&self.system_info, "cpu_type");
        if of_system.is_empty() { self.os("arch") } else { of_system }
    }

    /// Name of the operating system.
    #[must_use]
    pub fn os_name(&self) -> &str {
        self.os("name")
    }

    /// Version of the operating system.
    #[must_use]
    pub fn os_version(&self) -> &str {
        self.os("version")
    }

    /// A column of `os_version`.
    #[must_use]
    pub fn os(&self, column: &str) -> &str {
        get(&self.os_version, column)
    }
}

fn get<'a>(row: &'a BTreeMap<String, String>, column: &str) -> &'a str {
    row.get(column).map_or("", String::as_str)
}
