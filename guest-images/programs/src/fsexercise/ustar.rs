//! Archives of regular files and directories, in the format `ustar` of POSIX.1-2017, `pax`: pure.

use std::io::{Error, ErrorKind, Read};

/// Headers and contents fill whole records of this size.
const RECORD_BYTES: usize = 512;
const NAME_BYTES: usize = 100;
/// Where a header's own checksum is, which is added up as if it were blanks.
const CHECKSUM: std::ops::Range<usize> = 148..156;
const SIZE: std::ops::Range<usize> = 124..136;
const KIND_AT: usize = 156;
/// A file larger than this is not unpacked.
const MOST_BYTES: usize = 64 << 20;

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, of at most 100 bytes.
    pub name: String,
    /// A file's contents; `None` for a directory.
    pub contents: Option<Vec<u8>>,
}

impl Member {
    /// What it is in an archive: a header, contents, zeroes to the record's end.
    pub fn pack(&self) -> Vec<u8> {
        let contents = self.contents.as_deref().unwrap_or_default();
        let mut bytes = vec![0; RECORD_BYTES];
        let mut put = |at: usize, text: &[u8]| bytes[at..at + text.len()].copy_from_slice(text);
        let (mode, kind) = if self.contents.is_some() {
            ("0000644", b"0")
        } else {
            ("0000755", b"5")
        };
        put(0, self.name.as_bytes());
        put(100, mode.as_bytes());
        put(108, b"0000000\x000000000\0");
        put(SIZE.start, format!("{:011o}", contents.len()).as_bytes());
        put(136, b"00000000000");
        put(KIND_AT, kind);
        put(257, b"ustar\x0000");
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(RECORD_BYTES), 0);
        bytes
    }
}

/// What an archive ends with.
pub fn end() -> Vec<u8> {
    vec![0; 2 * RECORD_BYTES]
}

/// The next member of the archive that `source` reads; `None` at its end.
pub fn unpack(source: &mut impl Read) -> Result<Option<Member>, Error> {
    let mut header = [0; RECORD_BYTES];
    source.read_exact(&mut header)?;
    if header == [0; RECORD_BYTES] {
        return Ok(None);
    }
    if octal(&header[CHECKSUM]) != Some(checksum(&header)) {
        return Err(damaged("a header's checksum is wrong"));
    }
    let length = header[..NAME_BYTES].iter().position(|byte| *byte == 0);
    let name = std::str::from_utf8(&header[..length.unwrap_or(NAME_BYTES)])
        .map_err(|_| damaged("a name is no text"))?
        .to_owned();
    let contents = match header[KIND_AT] {
        b'0' => Some(contents(source, &header[SIZE])?),
        b'5' => None,
        _ => return Err(damaged("a member is neither file nor directory")),
    };
    Ok(Some(Member { name, contents }))
}

fn contents(source: &mut impl Read, size: &[u8]) -> Result<Vec<u8>, Error> {
    let size = octal(size)
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= MOST_BYTES)
        .ok_or_else(|| damaged("a file's size is none, or too large"))?;
    let mut contents = vec![0; size.next_multiple_of(RECORD_BYTES)];
    source.read_exact(&mut contents)?;
    contents.truncate(size);
    Ok(contents)
}

fn checksum(header: &[u8]) -> u64 {
    let byte = |(index, byte): (usize, &u8)| {
        if CHECKSUM.contains(&index) {
            b' '
        } else {
            *byte
        }
    };
    header[..RECORD_BYTES]
        .iter()
        .enumerate()
        .map(|numbered| u64::from(byte(numbered)))
        .sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

fn damaged(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("the archive is damaged: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn members() -> Vec<Member> {
        let member = |name: &str, contents: Option<&[u8]>| Member {
            name: name.to_owned(),
            contents: contents.map(<[u8]>::to_vec),
        };
        vec![
            member("folder", None),
            member("folder/empty", Some(b"")),
            member("folder/record", Some(&[7; RECORD_BYTES])),
            member("folder/more", Some(&[9; RECORD_BYTES + 1])),
        ]
    }

    fn archive() -> Vec<u8> {
        let mut bytes: Vec<u8> = members().iter().flat_map(Member::pack).collect();
        bytes.extend(end());
        bytes
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let bytes = archive();
        let mut source = &bytes[..];
        for member in members() {
            assert_eq!(unpack(&mut source).expect("readable"), Some(member));
        }
        assert_eq!(unpack(&mut source).expect("readable"), None);
    }

    #[test]
    fn tar_reads_it() {
        let path = std::env::temp_dir().join(format!("ustar-{}.tar", std::process::id()));
        std::fs::write(&path, archive()).expect("written");
        let tar = |arguments: &[&str]| {
            let output = Command::new("tar")
                .arg("--file")
                .arg(&path)
                .args(arguments)
                .output();
            let output = output.expect("tar is installed");
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            output.stdout
        };
        let list = String::from_utf8(tar(&["--list"])).expect("text");
        assert_eq!(list, "folder\nfolder/empty\nfolder/record\nfolder/more\n");
        let more = tar(&["--extract", "--to-stdout", "folder/more"]);
        assert_eq!(more, [9; RECORD_BYTES + 1]);
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn damage_is_told() {
        for at in [0, 130, 150, 156, 300] {
            let mut bytes = archive();
            bytes[at] ^= 1;
            unpack(&mut &bytes[..]).expect_err("damaged");
        }
        unpack(&mut &archive()[..100]).expect_err("cut off");
    }
}
