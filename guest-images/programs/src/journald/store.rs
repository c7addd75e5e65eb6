//! The journal's file: records are appended, and durable when [`Store::append`] returns.
//!
//! What always holds: the file begins with the records of `chain`, all of them durable. What is behind them is no record that
//! anybody was told of; it is cut off as soon as that works, and in any case before anything is appended.

use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;

use guest_journal::{Chain, Payload, RECORD_BYTES, Record};

/// Records that are read from the file at once when the journal is opened.
const READ_BACK_RECORDS: usize = 1024;

/// The journal.
#[derive(Debug)]
pub struct Store {
    file: File,
    chain: Chain,
    /// Something may be behind the last record: a torn tail, or what a failed append has left.
    tail: bool,
}

impl Store {
    /// Opens the journal at `path`, or makes an empty one, reads it back, and cuts off a torn tail. Returns its length, in bytes, too.
    pub fn open(path: &Path) -> Result<(Self, u64), Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let bytes = file.metadata()?.len();
        let chain = read_back(&file)?;
        let mut store = Self {
            file,
            chain,
            tail: bytes > end_of(&chain),
        };
        let torn = bytes - end_of(&store.chain);
        store.cut_tail()?;
        // The file's name is durable, too, before anybody is told of a record.
        store.file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok((store, torn))
    }

    /// Records in it.
    pub fn records(&self) -> u64 {
        self.chain.records()
    }

    /// Appends a record for each of `payloads`. They are durable when this returns them. After an error none of them is there as far
    /// as anybody was told: their numbers are given again.
    pub fn append(&mut self, payloads: &[Payload]) -> Result<Vec<Record>, Error> {
        self.cut_tail()?;
        let mut chain = self.chain;
        let records: Vec<Record> = payloads.iter().map(|text| chain.append(*text)).collect();
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        let written = self
            .file
            .write_all_at(&bytes, end_of(&self.chain))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.tail = true;
            // If this fails too, it is tried again before the next append.
            let _ = self.cut_tail();
            return Err(error);
        }
        self.chain = chain;
        Ok(records)
    }

    /// The bytes of up to `count` records from number `from` on; fewer at the journal's end.
    pub fn read(&self, from: u64, count: u64) -> Result<Vec<[u8; RECORD_BYTES]>, Error> {
        let first = from.saturating_sub(1).min(self.records());
        let count = count.min(self.records() - first);
        (first..first + count)
            .map(|index| {
                let mut bytes = [0; RECORD_BYTES];
                self.file
                    .read_exact_at(&mut bytes, index * RECORD_BYTES as u64)?;
                Ok(bytes)
            })
            .collect()
    }

    fn cut_tail(&mut self) -> Result<(), Error> {
        if self.tail {
            self.file.set_len(end_of(&self.chain))?;
            self.tail = false;
        }
        Ok(())
    }
}

fn end_of(chain: &Chain) -> u64 {
    chain.records() * RECORD_BYTES as u64
}

fn read_back(file: &File) -> Result<Chain, Error> {
    let mut chain = Chain::default();
    let mut buffer = vec![0; READ_BACK_RECORDS * RECORD_BYTES];
    loop {
        let length = read_full(file, &mut buffer, end_of(&chain))?;
        let whole = buffer[..length].chunks_exact(RECORD_BYTES);
        if length < RECORD_BYTES || whole.into_iter().any(|bytes| chain.accept(bytes).is_err()) {
            return Ok(chain);
        }
    }
}

/// Fills `buffer` as far as the file goes from `at` on.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> Result<usize, Error> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], at + length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::path::PathBuf;

    use super::*;

    /// A path that no other test uses, without a file.
    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn payloads(texts: &[&str]) -> Vec<Payload> {
        let payload = |text: &&str| Payload::new(text.as_bytes()).expect("it fits");
        texts.iter().map(payload).collect()
    }

    fn texts(store: &Store) -> Vec<String> {
        let records = store.read(1, 256).expect("readable");
        records
            .iter()
            .map(|bytes| {
                let record = Record::decode(bytes).expect("a record");
                String::from_utf8_lossy(record.payload.bytes()).into_owned()
            })
            .collect()
    }

    #[test]
    fn records_outlive_the_program() {
        let path = fresh("outlive");
        let (mut store, torn) = Store::open(&path).expect("opened");
        assert_eq!((store.records(), torn), (0, 0));
        let records = store.append(&payloads(&["one", "two"])).expect("appended");
        assert_eq!(records[1].number, 2);
        drop(store);
        let (mut store, torn) = Store::open(&path).expect("opened");
        assert_eq!((store.records(), torn), (2, 0));
        store.append(&payloads(&["three"])).expect("appended");
        assert_eq!(texts(&store), ["one", "two", "three"]);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn many_records_are_read_back() {
        let path = fresh("many");
        let many = vec![payloads(&["x"])[0]; READ_BACK_RECORDS];
        for records in [READ_BACK_RECORDS, 2 * READ_BACK_RECORDS] {
            let (mut store, _) = Store::open(&path).expect("opened");
            store.append(&many).expect("appended");
            let (store, torn) = Store::open(&path).expect("opened");
            assert_eq!((store.records(), torn), (records as u64, 0));
        }
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_its_number_given_again() {
        let path = fresh("torn");
        let (mut store, _) = Store::open(&path).expect("opened");
        store.append(&payloads(&["one", "two"])).expect("appended");
        let mut bytes = std::fs::read(&path).expect("readable");
        for length in RECORD_BYTES + 1..2 * RECORD_BYTES {
            std::fs::write(&path, &bytes[..length]).expect("written");
            let (store, torn) = Store::open(&path).expect("opened");
            assert_eq!((store.records(), torn), (1, (length - RECORD_BYTES) as u64));
            let left = std::fs::metadata(&path).expect("there").len();
            assert_eq!(left, RECORD_BYTES as u64);
        }
        bytes[RECORD_BYTES + 20] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let (mut store, torn) = Store::open(&path).expect("opened");
        assert_eq!((store.records(), torn), (1, RECORD_BYTES as u64));
        let again = store.append(&payloads(&["2"])).expect("appended");
        assert_eq!(again[0].number, 2);
        assert_eq!(texts(&store), ["one", "2"]);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn an_append_that_fails_leaves_nothing() {
        let path = fresh("fails");
        let (mut store, _) = Store::open(&path).expect("opened");
        store.append(&payloads(&["one"])).expect("appended");
        // A file that takes no writes, and what a write that broke off may have left.
        let writable = std::mem::replace(&mut store.file, File::open(&path).expect("opened"));
        store.append(&payloads(&["lost"])).expect_err("read-only");
        store
            .append(&payloads(&["lost"]))
            .expect_err("still read-only");
        assert_eq!(texts(&store), ["one"]);
        store.file = writable;
        store
            .file
            .write_all_at(&[b'x'; 100], RECORD_BYTES as u64)
            .expect("written");
        let next = store.append(&payloads(&["two"])).expect("appended");
        assert_eq!(next[0].number, 2);
        let (store, torn) = Store::open(&path).expect("opened");
        assert_eq!((texts(&store), torn), (vec!["one".into(), "two".into()], 0));
        let _ = std::fs::remove_file(&path);
    }

    /// A file in memory that may become shorter, but no longer than three records.
    fn file_that_does_not_grow() -> File {
        // SAFETY: a string that outlives the call; the file descriptor is new and nobody else's.
        let file = unsafe {
            let file = libc::memfd_create(c"journal".as_ptr(), libc::MFD_ALLOW_SEALING);
            assert!(file >= 0, "{}", Error::last_os_error());
            File::from_raw_fd(file)
        };
        file.set_len(3 * RECORD_BYTES as u64).expect("a size");
        // SAFETY: an operation on a file descriptor of ours.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_GROW) };
        assert_eq!(sealed, 0, "{}", Error::last_os_error());
        file
    }

    #[test]
    fn what_a_failed_append_has_left_is_cut_off_at_once() {
        let mut store = Store {
            file: file_that_does_not_grow(),
            chain: Chain::default(),
            tail: false,
        };
        store.append(&payloads(&["one"])).expect("appended");
        let full = store.append(&payloads(&["two", "three", "four"]));
        full.expect_err("the file may not grow");
        let length = store.file.metadata().expect("there").len();
        assert_eq!(length, RECORD_BYTES as u64);
        assert_eq!(texts(&store), ["one"]);
    }

    #[test]
    fn a_read_ends_at_the_last_record() {
        let path = fresh("read");
        let (mut store, _) = Store::open(&path).expect("opened");
        store.append(&payloads(&["1", "2", "3"])).expect("appended");
        let count = |from, count| store.read(from, count).expect("readable").len();
        assert_eq!(
            (count(1, 2), count(2, 9), count(4, 1), count(u64::MAX, 9)),
            (2, 2, 0, 0)
        );
        let _ = std::fs::remove_file(&path);
    }
}
