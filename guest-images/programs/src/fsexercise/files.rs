//! The files of the exercise, each a function of its number, and the archive that they make: pure.

use std::io::{Error, Read};

use super::ustar::{self, Member};
use crate::split_mix::split_mix;

/// Files in a directory.
const DIRECTORY_FILES: u32 = 40;

/// The path of file `number` in the archive.
pub fn name(number: u32) -> String {
    format!("{}/f{number:05}", directory(number))
}

fn directory(number: u32) -> String {
    format!("d{:04}", number / DIRECTORY_FILES)
}

/// What file `number` holds: most are small, each fiftieth is half a megabyte.
pub fn contents(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) << 32;
    let random = split_mix(&mut state) as usize;
    let bytes = match number % 50 {
        0 => 512 * 1024 + random % 4096,
        number if number % 10 == 0 => 32 * 1024 + random % 4096,
        7 => 0,
        _ => random % 6000,
    };
    let words = std::iter::repeat_with(|| split_mix(&mut state).to_le_bytes());
    words
        .take(bytes.div_ceil(8))
        .flatten()
        .take(bytes)
        .collect()
}

/// The archive of files 0 to `files`, made while it is read.
#[derive(Debug)]
pub struct Archive {
    next: u32,
    files: u32,
    made: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Archive {
    /// Of so many files.
    pub fn new(files: u32) -> Self {
        Self {
            next: 0,
            files,
            made: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    /// The next file, with its directory before it if it is the first there; or the archive's end.
    fn make(&mut self) {
        self.read = 0;
        self.made.clear();
        if self.next == self.files {
            self.made = ustar::end();
            self.ended = true;
            return;
        }
        if self.next.is_multiple_of(DIRECTORY_FILES) {
            let name = directory(self.next);
            let contents = None;
            self.made.extend(Member { name, contents }.pack());
        }
        let (name, contents) = (name(self.next), Some(contents(self.next)));
        self.made.extend(Member { name, contents }.pack());
        self.next += 1;
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.read == self.made.len() && !self.ended {
            self.make();
        }
        let length = buffer.len().min(self.made.len() - self.read);
        buffer[..length].copy_from_slice(&self.made[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_every_file_and_its_directory_first() {
        let mut archive = Archive::new(2 * DIRECTORY_FILES + 1);
        let (mut files, mut directories) = (0, Vec::new());
        while let Some(member) = ustar::unpack(&mut archive).expect("whole") {
            match member.contents {
                None => directories.push(member.name),
                Some(found) => {
                    assert_eq!(member.name, name(files));
                    assert_eq!(found, contents(files));
                    let directory = member.name.split('/').next().expect("a path");
                    assert_eq!(directories.last().map(String::as_str), Some(directory));
                    files += 1;
                }
            }
        }
        assert_eq!((files, directories.len()), (2 * DIRECTORY_FILES + 1, 3));
    }

    #[test]
    fn sizes_are_varied_and_some_mebibytes_in_all() {
        let sizes: Vec<usize> = (0..300).map(|number| contents(number).len()).collect();
        assert!(sizes.contains(&0));
        assert!(sizes.iter().any(|size| *size > 512 * 1024));
        let sum: usize = sizes.iter().sum();
        assert!((4 << 20..8 << 20).contains(&sum), "{sum}");
    }
}
