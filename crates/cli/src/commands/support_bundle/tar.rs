//! The simplest tar archive: regular files, names up to 255 bytes, POSIX (ustar) headers.

const BLOCK: usize = 512;
const NAME_FIELD: usize = 100;
const PREFIX_FIELD: usize = 155;

/// An archive of these files, all with the mode 0600 and one time (seconds since 1970).
pub(super) fn archive(files: &[(String, String)], time: i64) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, text) in files {
        archive.extend(header(name, text.len(), time));
        archive.extend(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are the end.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(name: &str, length: usize, time: i64) -> [u8; BLOCK] {
    let (prefix, name) = split(name);
    let mut header = [0; BLOCK];
    put(&mut header, 0, name.as_bytes());
    put(&mut header, 100, b"0000600\0");
    put(&mut header, 108, b"0000000\0");
    put(&mut header, 116, b"0000000\0");
    put(&mut header, 124, format!("{length:011o}\0").as_bytes());
    put(&mut header, 136, format!("{:011o}\0", time.max(0)).as_bytes());
    put(&mut header, 156, b"0");
    put(&mut header, 257, b"ustar\x0000");
    put(&mut header, 345, prefix.as_bytes());
    // The checksum counts its own field as blanks.
    put(&mut header, 148, b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    header
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Long names are split at a slash between two fields; one that fits nowhere is cut.
fn split(name: &str) -> (&str, &str) {
    if name.len() <= NAME_FIELD {
        return ("", name);
    }
    let fits = |at: &usize| *at <= PREFIX_FIELD && name.len() - at - 1 <= NAME_FIELD;
    match name.match_indices('/').map(|(at, _)| at).find(fits) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => {
            let cut = (0..=NAME_FIELD).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
            ("", &name[..cut])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command};

    use super::*;

    #[test]
    fn the_tar_program_reads_what_is_written() {
        let long = format!("{}/{}.txt", "d".repeat(90), "f".repeat(80));
        let files = [
            ("a.txt".to_owned(), "hello\n".to_owned()),
            (long.clone(), "x".repeat(1000)),
            ("empty".into(), String::new()),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tar");
        std::fs::File::create(&path).unwrap().write_all(&archive(&files, 1_700_000_000)).unwrap();
        let status = Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(dir.path()).status().unwrap();
        assert!(status.success());
        for (name, text) in &files {
            assert_eq!(&std::fs::read_to_string(dir.path().join(name)).unwrap(), text, "{name}");
        }
    }
}
