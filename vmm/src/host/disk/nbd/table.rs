//! What is under way, and how it is cut into NBD requests. Pure.
//!
//! What always holds: a request leaves the table once. Its pieces' cookies name it and their place in
//! it; they are the same each time it is sent, and the answers of one connection are counted alone.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use disk_server::wire::{self, ErrorCode, MAX_DATA_BYTES, command_flag, flag};

use crate::effect::{DiskOperation, DiskRequest};

/// Of a request that moves no data: a whole number of sectors, and what a length of 32 bits can tell.
const MAX_RANGE_BYTES: u64 = 1 << 30;
/// Bits of a cookie that number the pieces: 2^32 sectors are 2^11 of the largest.
const PIECE_BITS: u32 = 16;

/// Requests that were submitted and not answered, in order.
#[derive(Debug, Default)]
pub(super) struct Table {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    request: DiskRequest,
    /// Not answered on this connection.
    left: Vec<u64>,
    /// What was read so far.
    data: Vec<u8>,
    failed: Option<ErrorCode>,
}

/// One NBD request.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) request: wire::Request,
    /// What it writes: this part of the data.
    pub(super) data: Option<(Arc<[u8]>, Range<usize>)>,
}

impl Table {
    /// Takes a request in; gives its number.
    pub(super) fn insert(&mut self, request: DiskRequest) -> u64 {
        let number = self.next;
        self.next += 1;
        let pending = Pending {
            request,
            left: Vec::new(),
            data: Vec::new(),
            failed: None,
        };
        self.pending.insert(number, pending);
        number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The numbers of all requests, in order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    pub(super) fn request(&self, number: u64) -> Option<&DiskRequest> {
        self.pending.get(&number).map(|pending| &pending.request)
    }

    /// The request's pieces, to be sent on a new connection, or for the first time.
    pub(super) fn start(&mut self, number: u64) -> Vec<Piece> {
        let Some(pending) = self.pending.get_mut(&number) else {
            return Vec::new();
        };
        let pieces = pieces(number, &pending.request.operation);
        pending.left = pieces.iter().map(|piece| piece.request.cookie).collect();
        pending.failed = None;
        pending.data = match pending.request.operation {
            DiskOperation::Read { bytes, .. } => vec![0; bytes as usize],
            _ => Vec::new(),
        };
        pieces
    }

    /// A piece was answered. Gives the request and its result, if that was its last.
    ///
    /// # Errors
    /// If no such piece is under way, or its data have another length.
    pub(super) fn answer(
        &mut self,
        cookie: u64,
        result: Result<Vec<u8>, ErrorCode>,
    ) -> Result<Option<Finished>, NotAsked> {
        let number = cookie >> PIECE_BITS;
        let pending = self.pending.get_mut(&number).ok_or(NotAsked)?;
        let at = pending.left.iter().position(|left| *left == cookie);
        pending.left.swap_remove(at.ok_or(NotAsked)?);
        match result {
            Ok(read) => {
                let piece = (cookie & ((1 << PIECE_BITS) - 1)) as usize;
                let start = piece * MAX_DATA_BYTES as usize;
                if !read.is_empty() {
                    let place = pending.data.get_mut(start..).ok_or(NotAsked)?;
                    place
                        .get_mut(..read.len())
                        .ok_or(NotAsked)?
                        .copy_from_slice(&read);
                }
            }
            Err(code) => pending.failed = Some(pending.failed.unwrap_or(code)),
        }
        if !pending.left.is_empty() {
            return Ok(None);
        }
        Ok(self.pending.remove(&number).map(|pending| {
            let result = pending.failed.map_or(Ok(pending.data), Err);
            (pending.request, result)
        }))
    }

    /// Takes a request out, which is answered some other way.
    pub(super) fn remove(&mut self, number: u64) -> Option<DiskRequest> {
        self.pending.remove(&number).map(|pending| pending.request)
    }
}

/// A request, and what the server made of it.
pub(super) type Finished = (DiskRequest, Result<Vec<u8>, ErrorCode>);

/// The server answers what was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAsked;

/// Whether an export with these [flags](flag) knows such a request.
pub(super) fn is_known(operation: &DiskOperation, flags: u16) -> bool {
    let needed = match operation {
        DiskOperation::Read { .. } | DiskOperation::Write { .. } => 0,
        DiskOperation::Flush => flag::SEND_FLUSH,
        // What may not be changed is refused as such.
        _ if flags & flag::READ_ONLY != 0 => 0,
        DiskOperation::Discard { .. } => flag::SEND_TRIM,
        DiskOperation::WriteZeroes { .. } => flag::SEND_WRITE_ZEROES,
    };
    flags & needed == needed
}

fn pieces(number: u64, operation: &DiskOperation) -> Vec<Piece> {
    use wire::Command;
    let (command, flags, most) = match operation {
        DiskOperation::Read { .. } => (Command::Read, 0, u64::from(MAX_DATA_BYTES)),
        DiskOperation::Write { .. } => (Command::Write, 0, u64::from(MAX_DATA_BYTES)),
        DiskOperation::Flush => (Command::Flush, 0, MAX_RANGE_BYTES),
        DiskOperation::Discard { .. } => (Command::Trim, 0, MAX_RANGE_BYTES),
        DiskOperation::WriteZeroes { unmap: true, .. } => {
            (Command::WriteZeroes, 0, MAX_RANGE_BYTES)
        }
        DiskOperation::WriteZeroes { unmap: false, .. } => {
            (Command::WriteZeroes, command_flag::NO_HOLE, MAX_RANGE_BYTES)
        }
    };
    let range = operation.range().unwrap_or(0..0);
    let count = (range.end - range.start).div_ceil(most).max(1);
    let piece = |piece: u64| {
        let start = piece * most;
        let length = (range.end - range.start - start).min(most);
        Piece {
            request: wire::Request {
                flags,
                command,
                cookie: number << PIECE_BITS | piece,
                offset: range.start + start,
                length: length as u32,
            },
            data: match operation {
                DiskOperation::Write { data, .. } => {
                    let end = (start + length) as usize;
                    Some((Arc::clone(data), start as usize..end))
                }
                _ => None,
            },
        }
    };
    (0..count).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: DiskOperation) -> DiskRequest {
        DiskRequest {
            disk: 0,
            id: 9,
            operation,
        }
    }

    #[test]
    fn a_long_read_is_put_together_whatever_order_its_pieces_come_in() {
        let bytes = 2 * MAX_DATA_BYTES + 512;
        let mut table = Table::default();
        let number = table.insert(request(DiskOperation::Read { sector: 8, bytes }));
        let pieces = table.start(number);
        let offsets: Vec<_> = pieces
            .iter()
            .map(|p| (p.request.offset, p.request.length))
            .collect();
        let most = u64::from(MAX_DATA_BYTES);
        let expected = [
            (4096, MAX_DATA_BYTES),
            (4096 + most, MAX_DATA_BYTES),
            (4096 + 2 * most, 512),
        ];
        assert_eq!(offsets, expected);
        let mut finished = None;
        for (value, piece) in pieces.iter().enumerate().rev() {
            assert!(finished.is_none());
            let read = vec![value as u8; piece.request.length as usize];
            finished = table.answer(piece.request.cookie, Ok(read)).unwrap();
        }
        let data = finished.unwrap().1.unwrap();
        assert_eq!(data.len(), bytes as usize);
        assert_eq!(
            (
                data[0],
                data[MAX_DATA_BYTES as usize],
                data[bytes as usize - 1]
            ),
            (0, 1, 2)
        );
        assert!(table.is_empty());
    }

    #[test]
    fn an_answer_counts_once_and_only_if_it_was_asked_for() {
        let mut table = Table::default();
        assert_eq!(table.answer(0, Ok(Vec::new())).unwrap_err(), NotAsked);
        let number = table.insert(request(DiskOperation::Flush));
        assert_eq!(table.answer(0, Ok(Vec::new())).unwrap_err(), NotAsked);
        let cookie = table.start(number)[0].request.cookie;
        let finished = table.answer(cookie, Err(ErrorCode::Io)).unwrap();
        assert_eq!(finished.unwrap().1, Err(ErrorCode::Io));
        assert_eq!(table.answer(cookie, Ok(Vec::new())).unwrap_err(), NotAsked);
    }

    #[test]
    fn sent_again_all_pieces_are_needed_again() {
        let data: Arc<[u8]> = vec![7; MAX_DATA_BYTES as usize + 512].into();
        let mut table = Table::default();
        let number = table.insert(request(DiskOperation::Write { sector: 0, data }));
        let first = table.start(number)[0].request.cookie;
        assert!(table.answer(first, Err(ErrorCode::Io)).unwrap().is_none());
        let pieces = table.start(number);
        assert_eq!(pieces[1].data.as_ref().unwrap().1.len(), 512);
        assert!(
            table
                .answer(pieces[0].request.cookie, Ok(Vec::new()))
                .unwrap()
                .is_none()
        );
        let finished = table
            .answer(pieces[1].request.cookie, Ok(Vec::new()))
            .unwrap();
        assert_eq!(finished.unwrap().1, Ok(Vec::new()));
    }

    #[test]
    fn the_longest_discard_has_cookies_of_its_own() {
        let mut table = Table::default();
        let (sector, sectors) = (0, u32::MAX);
        for _ in 0..2 {
            table.insert(request(DiskOperation::Discard { sector, sectors }));
        }
        let (one, other) = (table.start(0), table.start(1));
        let total: u64 = one
            .iter()
            .map(|piece| u64::from(piece.request.length))
            .sum();
        assert_eq!(total, u64::from(u32::MAX) * 512);
        assert!(one.last().unwrap().request.cookie < other[0].request.cookie);
    }
}
