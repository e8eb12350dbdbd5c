//! `system_info`: one row about the machine.

use std::collections::BTreeSet;

use crate::table::{Column, Rows, Scan, Table, Value};

use super::procfs::{kilobytes, read, read_trimmed};

/// The table.
pub(super) struct SystemInfo;

const COLUMNS: &[Column] = &[
    Column::text("hostname"),
    Column::text("uuid"),
    Column::text("cpu_type"),
    Column::text("cpu_subtype"),
    Column::text("cpu_brand"),
    Column::int("cpu_physical_cores"),
    Column::int("cpu_logical_cores"),
    Column::int("cpu_sockets"),
    Column::text("cpu_microcode"),
    Column::big("physical_memory"),
    Column::text("hardware_vendor"),
    Column::text("hardware_model"),
    Column::text("hardware_version"),
    Column::text("hardware_serial"),
    Column::text("board_vendor"),
    Column::text("board_model"),
    Column::text("board_version"),
    Column::text("board_serial"),
    Column::text("computer_name"),
    Column::text("local_hostname"),
    // macOS.
    Column::text("emulated_cpu_type").hidden(),
];

impl Table for SystemInfo {
    fn name(&self) -> &'static str {
        "system_info"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, _scan: &Scan) -> Rows {
        let host = hostname();
        let cpu = Cpu::parse(&read("/proc/cpuinfo").unwrap_or_default());
        let memory = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemTotal:"));
        let dmi = |name: &str| Value::from(read_trimmed(format!("/sys/class/dmi/id/{name}")));
        Box::new(std::iter::once(vec![
            host.clone().into(),
            machine_uuid().into(),
            rustix::system::uname().machine().to_string_lossy().into_owned().into(),
            cpu.subtype.into(),
            cpu.brand.into(),
            cpu.physical_cores.into(),
            cpu.logical_cores.into(),
            cpu.sockets.into(),
            cpu.microcode.into(),
            memory.into(),
            dmi("sys_vendor"),
            dmi("product_name"),
            dmi("product_version"),
            dmi("product_serial"),
            dmi("board_vendor"),
            dmi("board_name"),
            dmi("board_version"),
            dmi("board_serial"),
            host.clone().into(),
            host.into(),
        ]))
    }
}

/// The machine's own name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The firmware's identifier when it may be read, else systemd's machine-id in the same form.
pub(crate) fn machine_uuid() -> Option<String> {
    let firmware = read_trimmed("/sys/class/dmi/id/product_uuid");
    firmware.map(|text| text.to_ascii_lowercase()).filter(|text| !is_placeholder(text)).or_else(
        || {
            let id = read_trimmed("/etc/machine-id")?;
            Some(uuid::Uuid::try_parse(&id).ok()?.hyphenated().to_string())
        },
    )
}

/// What boards carry whose maker did not fill it in.
fn is_placeholder(text: &str) -> bool {
    let digits: BTreeSet<char> = text.chars().filter(|c| *c != '-').collect();
    digits.len() <= 1 || text == "03000200-0400-0500-0006-000700080009"
}

/// What `/proc/cpuinfo` says, on x86 and on Arm.
#[derive(Debug, Default, PartialEq)]
struct Cpu {
    subtype: Option<String>,
    brand: Option<String>,
    microcode: Option<String>,
    physical_cores: i64,
    logical_cores: i64,
    sockets: i64,
}

impl Cpu {
    fn parse(text: &str) -> Self {
        let mut cpu = Self::default();
        let (mut cores, mut sockets) = (BTreeSet::new(), BTreeSet::new());
        let mut socket = "";
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim() {
                "processor" => cpu.logical_cores += 1,
                "physical id" => {
                    socket = value;
                    sockets.insert(value);
                }
                "core id" => {
                    cores.insert((socket, value));
                }
                "model" | "CPU part" => cpu.subtype = Some(value.to_owned()),
                "model name" => cpu.brand = Some(value.to_owned()),
                "microcode" => cpu.microcode = Some(value.to_owned()),
                _ => {}
            }
        }
        let count = |n: usize, without: i64| if n == 0 { without } else { n as i64 };
        cpu.sockets = count(sockets.len(), 1);
        cpu.physical_cores = count(cores.len(), cpu.logical_cores);
        cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_core_count_once() {
        let one = |n: u32, core: u32| {
            format!("processor : {n}\nmodel name : X\nphysical id : 0\ncore id : {core}\n\n")
        };
        let cpu = Cpu::parse(&[one(0, 0), one(1, 0), one(2, 1), one(3, 1)].concat());
        assert_eq!((cpu.logical_cores, cpu.physical_cores, cpu.sockets), (4, 2, 1));
        assert_eq!(cpu.brand.as_deref(), Some("X"));
    }

    #[test]
    fn unfilled_firmware_is_no_identity() {
        assert!(is_placeholder("00000000-0000-0000-0000-000000000000"));
        assert!(is_placeholder("ffffffff-ffff-ffff-ffff-ffffffffffff"));
        assert!(!is_placeholder("4c4c4544-0042-3010-8053-b4c04f4e3232"));
    }
}
