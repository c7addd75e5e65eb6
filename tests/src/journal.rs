//! What the guest `journal` has left on its disk's image.
//!
//! In: an image's bytes. Out: the journal's records, or the first thing in it that contradicts what the guest's clients were told.

use std::path::Path;

use bare::journal::record::{Header, Record, SECTOR, Sector};

/// A journal as it lies on an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// What sector 0 says; `None`: it is damaged.
    pub header: Option<Header>,
    /// The records from the first on, up to one that is damaged, missing or of another history.
    pub records: Vec<Record>,
    /// Sectors behind the records that are not empty.
    pub behind: Vec<u64>,
}

impl Journal {
    /// The journal on the image at `path`.
    ///
    /// # Panics
    /// If it cannot be read, or is not made of sectors.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let image = std::fs::read(path).expect("the image can be read");
        let (sectors, rest) = image.as_chunks::<SECTOR>();
        assert!(rest.is_empty(), "an image is made of sectors");
        let (header, sectors) = sectors.split_first().expect("an image has a sector");
        let mut last = Record::default();
        let mut next = |sector: &Sector| {
            let record = Record::decode(sector)?;
            let follows = record.number == last.number + 1 && record.previous == last.checksum;
            last = record;
            follows.then_some(record)
        };
        let records: Vec<Record> = sectors.iter().map_while(&mut next).collect();
        let behind = (1..).zip(sectors).skip(records.len());
        let behind = behind.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        Self {
            header: Header::decode(header),
            behind: behind.map(|(number, _)| number).collect(),
            records,
        }
    }

    /// What is wrong, when `answered` records were answered, and no request is left.
    #[must_use]
    pub fn faults(&self, answered: u64) -> Vec<String> {
        let mut faults = self.faults_while_asked(answered);
        let records = self.records.len() as u64;
        if records > answered {
            faults.push(format!("{records} records, and {answered} were asked for"));
        }
        if !self.behind.is_empty() {
            faults.push(format!("sectors behind the records: {:?}", self.behind));
        }
        faults
    }

    /// What is wrong, when `answered` records were answered, and more were asked for.
    #[must_use]
    pub fn faults_while_asked(&self, answered: u64) -> Vec<String> {
        let mut faults = Vec::new();
        let records = self.records.len() as u64;
        if records < answered {
            faults.push(format!(
                "{answered} records were answered, and {records} are there"
            ));
        }
        match self.header {
            None => faults.push("the header is damaged".to_owned()),
            Some(Header { count, .. }) if count < answered => {
                faults.push(format!(
                    "{answered} records were answered, and the header says {count}"
                ));
            }
            Some(Header { count, last }) => {
                let named = usize::try_from(count).ok().and_then(|count| {
                    let index = count.checked_sub(1)?;
                    self.records.get(index)
                });
                if named.is_some_and(|record| record.checksum != last) {
                    faults.push(format!("the header names another record {count}"));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of 16 sectors with so many records, and what changes it.
    fn journal(records: u64, change: impl FnOnce(&mut Vec<Sector>)) -> Journal {
        let mut sectors = vec![[0; SECTOR]; 16];
        let mut last = 0;
        for number in 1..=records {
            let (record, sector) = Record::encode(number, 7, last);
            last = record.checksum;
            sectors[number as usize] = sector;
            let count = number;
            sectors[0] = Header { count, last }.encode();
        }
        change(&mut sectors);
        let image = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(image.path(), sectors.as_flattened()).expect("written");
        Journal::read(image.path())
    }

    #[test]
    fn a_whole_journal_has_no_faults() {
        assert_eq!(journal(5, |_| ()).faults(5), [""; 0]);
        assert_eq!(journal(0, |_| ()).faults(0), [""; 0]);
        assert_eq!(journal(5, |_| ()).faults_while_asked(3), [""; 0]);
    }

    #[test]
    fn every_fault_is_told() {
        let lost = journal(5, |sectors| sectors[3] = [0; SECTOR]);
        assert_eq!(lost.records.len(), 2);
        assert_eq!(lost.behind, [4, 5]);
        assert!(!lost.faults_while_asked(3).is_empty());
        let torn = journal(5, |sectors| sectors[5][300] ^= 1);
        assert!(!torn.faults_while_asked(5).is_empty());
        let extra = journal(5, |_| ());
        assert!(!extra.faults(4).is_empty());
        let old_header = journal(5, |sectors| {
            let Record { checksum, .. } = Record::decode(&sectors[3]).expect("a record");
            let (count, last) = (3, checksum);
            sectors[0] = Header { count, last }.encode();
        });
        assert!(!old_header.faults_while_asked(5).is_empty());
        let other = journal(5, |sectors| {
            let Record { previous, .. } = Record::decode(&sectors[5]).expect("a record");
            sectors[5] = Record::encode(5, 8, previous).1;
        });
        assert!(!other.faults_while_asked(5).is_empty());
    }
}
