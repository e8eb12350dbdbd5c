//! `file`: what stat(2) tells about the paths asked for.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

use crate::glob;
use crate::table::{Column, Row, Rows, Scan, Table, Value, hash};

/// The table.
pub(super) struct File;

const COLUMNS: &[Column] = &[
    Column::text("path").required(),
    Column::text("directory").required(),
    Column::text("filename"),
    Column::big("inode"),
    Column::big("uid"),
    Column::big("gid"),
    Column::text("mode"),
    Column::big("device"),
    Column::big("size"),
    Column::int("block_size"),
    Column::big("atime"),
    Column::big("mtime"),
    Column::big("ctime"),
    Column::big("btime"),
    Column::int("hard_links"),
    Column::int("symlink"),
    Column::text("type"),
    Column::text("symlink_target_path"),
    // Windows and macOS, and the agent's namespaces.
    Column::text("attributes").hidden(),
    Column::text("volume_serial").hidden(),
    Column::text("file_id").hidden(),
    Column::text("file_version").hidden(),
    Column::text("product_version").hidden(),
    Column::text("original_filename").hidden(),
    Column::text("shortcut_target_path").hidden(),
    Column::text("shortcut_target_type").hidden(),
    Column::text("shortcut_target_location").hidden(),
    Column::text("shortcut_start_in").hidden(),
    Column::text("shortcut_run").hidden(),
    Column::text("shortcut_comment").hidden(),
    Column::text("bsd_flags").hidden(),
    Column::int("pid_with_namespace").hidden(),
    Column::text("mount_namespace_id").hidden(),
];

impl Table for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn identity(&self, row: &[Value]) -> u64 {
        hash(row.get(..1).unwrap_or_default())
    }

    fn rows(&self, scan: &Scan) -> Rows {
        Box::new(glob::paths(scan, 0, 1).filter_map(|path| row(&path)))
    }
}

/// One path; `None` when there is nothing.
fn row(path: &Path) -> Option<Row> {
    let of = |flags| rustix::fs::statx(CWD, path, flags, StatxFlags::ALL).ok();
    let itself = of(AtFlags::SYMLINK_NOFOLLOW)?;
    let is_link = FileType::from_raw_mode(itself.stx_mode.into()) == FileType::Symlink;
    // Behind a link the target is described; a dangling link describes itself.
    let stat = if is_link { of(AtFlags::empty()).unwrap_or(itself) } else { itself };
    let target = is_link.then(|| std::fs::read_link(path).ok()).flatten();
    let (directory, filename) = glob::split(path);
    Some(vec![
        text(path).into(),
        directory.into(),
        filename.into(),
        stat.stx_ino.into(),
        stat.stx_uid.into(),
        stat.stx_gid.into(),
        format!("{:04o}", stat.stx_mode & 0o7777).into(),
        device(&stat).into(),
        stat.stx_size.into(),
        stat.stx_blksize.into(),
        stat.stx_atime.tv_sec.into(),
        stat.stx_mtime.tv_sec.into(),
        stat.stx_ctime.tv_sec.into(),
        if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME) {
            stat.stx_btime.tv_sec.into()
        } else {
            Value::Null
        },
        stat.stx_nlink.into(),
        i32::from(is_link).into(),
        kind(FileType::from_raw_mode(stat.stx_mode.into())).into(),
        target.map(|target| text(&target)).into(),
    ])
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

fn device(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character",
        FileType::BlockDevice => "block",
        _ => "unknown",
    }
}
