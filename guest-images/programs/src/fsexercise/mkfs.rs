//! An empty ext4, as the bytes to write: pure. (The kernel's documentation, filesystems/ext4, describes all that is here.)
//!
//! ```text
//! group 0   │ superblock │ descriptors │ bitmaps │ inodes │ root │ lost+found │ journal │ free …
//! group n   │ (copies of both, if n is 1 or a power of 3, 5 or 7) │ bitmaps │ inodes │ free …
//! ```
//!
//! Blocks of 4 KiB, extents, a journal of 4 MiB, indexed directories; no checksums of metadata.

/// A block's size.
pub const BLOCK_BYTES: u64 = 4096;
/// Smaller than this is refused.
pub const LEAST_BYTES: u64 = 16 << 20;

const BLOCKS_PER_GROUP: u32 = 32_768;
/// What one block of descriptors describes: 16 GiB. More of a device is left alone.
const MOST_GROUPS: u32 = 128;
const INODES_PER_GROUP: u32 = 2048;
const INODE_BYTES: u32 = 256;
const TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_BYTES / BLOCK_BYTES as u32;
/// A group at the end with less room than this is left out.
const LEAST_FREE_BLOCKS: u32 = 256;
const JOURNAL_BLOCKS: u32 = 1024;

const ROOT_INODE: u32 = 2;
const JOURNAL_INODE: u32 = 8;
/// The first that is not reserved.
const LOST_AND_FOUND_INODE: u32 = 11;

const TABLE: u32 = 4;
const ROOT: u32 = TABLE + TABLE_BLOCKS;
const LOST_AND_FOUND: u32 = ROOT + 1;
const JOURNAL: u32 = LOST_AND_FOUND + 1;

const DIRECTORY: u16 = 0o40_755;
const FILE: u16 = 0o100_600;
/// Any that is not zero.
const UUID: [u8; 16] = *b"lockstep exercis";

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These.
    Bytes {
        /// From the device's beginning.
        at: u64,
        /// Whole blocks.
        bytes: Vec<u8>,
    },
    /// Zeroes.
    Zeroes {
        /// From the device's beginning.
        at: u64,
        /// How many.
        bytes: u64,
    },
}

/// The file system that fills a device of `device_bytes`; `None` if it is too small. Pieces do not overlap.
pub fn ext4(device_bytes: u64) -> Option<Vec<Piece>> {
    if device_bytes < LEAST_BYTES {
        return None;
    }
    let groups = groups(device_bytes / BLOCK_BYTES);
    let superblock = superblock(&groups);
    let descriptors = descriptors(&groups);
    let mut pieces = Vec::new();
    for group in &groups {
        if group.has_copies() {
            pieces.push(at_block(
                group.first,
                superblock_block(&superblock, group.number),
            ));
            pieces.push(at_block(group.first + 1, descriptors.clone()));
        }
        pieces.push(at_block(group.bitmaps(), group.block_bitmap()));
        pieces.push(at_block(group.bitmaps() + 1, group.inode_bitmap()));
        if group.number > 0 {
            pieces.push(zeroes(group.bitmaps() + 2, TABLE_BLOCKS));
        }
    }
    pieces.push(at_block(TABLE, first_inodes()));
    pieces.push(zeroes(TABLE + 1, TABLE_BLOCKS - 1));
    pieces.push(at_block(
        ROOT,
        directory(&[
            (".", ROOT_INODE),
            ("..", ROOT_INODE),
            ("lost+found", LOST_AND_FOUND_INODE),
        ]),
    ));
    pieces.push(at_block(
        LOST_AND_FOUND,
        directory(&[(".", LOST_AND_FOUND_INODE), ("..", ROOT_INODE)]),
    ));
    pieces.push(at_block(JOURNAL, journal_superblock()));
    pieces.push(zeroes(JOURNAL + 1, JOURNAL_BLOCKS - 1));
    Some(pieces)
}

fn at_block(block: u32, bytes: Vec<u8>) -> Piece {
    Piece::Bytes {
        at: u64::from(block) * BLOCK_BYTES,
        bytes,
    }
}

fn zeroes(block: u32, blocks: u32) -> Piece {
    Piece::Zeroes {
        at: u64::from(block) * BLOCK_BYTES,
        bytes: u64::from(blocks) * BLOCK_BYTES,
    }
}

/// A block group.
#[derive(Clone, Copy, Debug)]
struct Group {
    number: u32,
    /// Its first block.
    first: u32,
    blocks: u32,
}

impl Group {
    /// Whether superblock and descriptors are in it (`sparse_super`).
    fn has_copies(&self) -> bool {
        let power_of = |base: u32| {
            let mut power = base;
            while power < self.number {
                power *= base;
            }
            power == self.number
        };
        self.number <= 1 || [3, 5, 7].into_iter().any(power_of)
    }

    /// The block bitmap, the inode bitmap and the inode table are next to each other.
    fn bitmaps(&self) -> u32 {
        self.first + if self.has_copies() { 2 } else { 0 }
    }

    /// Blocks in use, which are its first.
    fn used(&self) -> u32 {
        match self.number {
            0 => JOURNAL + JOURNAL_BLOCKS,
            _ => self.bitmaps() - self.first + 2 + TABLE_BLOCKS,
        }
    }

    fn free_blocks(&self) -> u32 {
        self.blocks - self.used()
    }

    fn used_inodes(&self) -> u32 {
        if self.number == 0 {
            LOST_AND_FOUND_INODE
        } else {
            0
        }
    }

    fn free_inodes(&self) -> u32 {
        INODES_PER_GROUP - self.used_inodes()
    }

    /// What is behind the group's end counts as used.
    fn block_bitmap(&self) -> Vec<u8> {
        bitmap(|block| block < self.used() || block >= self.blocks)
    }

    fn inode_bitmap(&self) -> Vec<u8> {
        bitmap(|inode| inode < self.used_inodes() || inode >= INODES_PER_GROUP)
    }
}

fn groups(device_blocks: u64) -> Vec<Group> {
    let most = u64::from(MOST_GROUPS) * u64::from(BLOCKS_PER_GROUP);
    let blocks = device_blocks.min(most) as u32;
    (0..blocks.div_ceil(BLOCKS_PER_GROUP))
        .map(|number| {
            let first = number * BLOCKS_PER_GROUP;
            let blocks = BLOCKS_PER_GROUP.min(blocks - first);
            Group {
                number,
                first,
                blocks,
            }
        })
        .filter(|group| group.blocks >= group.used() + LEAST_FREE_BLOCKS)
        .collect()
}

fn bitmap(used: impl Fn(u32) -> bool) -> Vec<u8> {
    let byte =
        |index: u32| (0..8).fold(0, |byte, bit| byte | u8::from(used(index * 8 + bit)) << bit);
    (0..BLOCK_BYTES as u32).map(byte).collect()
}

/// Writes little-endian numbers at places.
struct Fields(Vec<u8>);

impl Fields {
    fn new(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u16(&mut self, at: usize, value: u16) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }
}

/// `struct ext4_super_block`.
fn superblock(groups: &[Group]) -> Vec<u8> {
    let sum = |field: fn(&Group) -> u32| groups.iter().map(field).sum::<u32>();
    let mut fields = Fields::new(1024);
    fields
        .u32(0x00, INODES_PER_GROUP * groups.len() as u32)
        .u32(0x04, sum(|group| group.blocks))
        .u32(0x0C, sum(Group::free_blocks))
        .u32(0x10, sum(Group::free_inodes))
        // Blocks and clusters: 1024 << 2.
        .u32(0x18, 2)
        .u32(0x1C, 2)
        .u32(0x20, BLOCKS_PER_GROUP)
        .u32(0x24, BLOCKS_PER_GROUP)
        .u32(0x28, INODES_PER_GROUP)
        // Never checked because of its age.
        .u16(0x36, u16::MAX)
        .u16(0x38, 0xEF53)
        // Clean; errors are ignored unless the mount says otherwise.
        .u16(0x3A, 1)
        .u16(0x3C, 1)
        .u32(0x4C, 1)
        .u32(0x54, LOST_AND_FOUND_INODE)
        .u16(0x58, INODE_BYTES as u16)
        // has_journal, dir_index; filetype, extents; sparse_super, extra_isize.
        .u32(0x5C, 0x4 | 0x20)
        .u32(0x60, 0x2 | 0x40)
        .u32(0x64, 0x1 | 0x40)
        .bytes(0x68, &UUID)
        .u32(0xE0, JOURNAL_INODE)
        // Directories are hashed by half MD4, characters are signed.
        .bytes(0xEC, &UUID)
        .bytes(0xFC, &[1])
        .u32(0x160, 1)
        // A copy of what the journal's inode says, its blocks and its size.
        .bytes(0xFD, &[1])
        .bytes(0x10C, &extents(JOURNAL, JOURNAL_BLOCKS))
        .u32(0x10C + 16 * 4, JOURNAL_BLOCKS * BLOCK_BYTES as u32)
        .u16(0x15C, 32)
        .u16(0x15E, 32);
    fields.0
}

/// The block that holds the superblock, in group `group`; the first is 1024 bytes into the device.
fn superblock_block(superblock: &[u8], group: u32) -> Vec<u8> {
    let mut block = Fields::new(BLOCK_BYTES as usize);
    let at = if group == 0 { 1024 } else { 0 };
    block.bytes(at, superblock).u16(at + 0x5A, group as u16);
    block.0
}

/// `struct ext4_group_desc`, of 32 bytes, for each group.
fn descriptors(groups: &[Group]) -> Vec<u8> {
    let mut fields = Fields::new(BLOCK_BYTES as usize);
    for (index, group) in groups.iter().enumerate() {
        let at = index * 32;
        fields
            .u32(at, group.bitmaps())
            .u32(at + 4, group.bitmaps() + 1)
            .u32(at + 8, group.bitmaps() + 2)
            .u16(at + 12, group.free_blocks() as u16)
            .u16(at + 14, group.free_inodes() as u16)
            .u16(at + 16, if group.number == 0 { 2 } else { 0 });
    }
    fields.0
}

/// The first block of the inode table, with all inodes that are in use.
fn first_inodes() -> Vec<u8> {
    let mut fields = Fields::new(BLOCK_BYTES as usize);
    let mut inode = |number: u32, mode, links, block, blocks: u32| {
        let at = ((number - 1) * INODE_BYTES) as usize;
        fields
            .u16(at, mode)
            .u32(at + 4, blocks * BLOCK_BYTES as u32)
            .u16(at + 0x1A, links)
            // In sectors.
            .u32(at + 0x1C, blocks * 8)
            // Its blocks are given by extents.
            .u32(at + 0x20, 0x8_0000)
            .bytes(at + 0x28, &extents(block, blocks))
            .u16(at + 0x80, 32);
    };
    inode(ROOT_INODE, DIRECTORY, 3, ROOT, 1);
    inode(JOURNAL_INODE, FILE, 1, JOURNAL, JOURNAL_BLOCKS);
    inode(LOST_AND_FOUND_INODE, DIRECTORY, 2, LOST_AND_FOUND, 1);
    fields.0
}

/// A tree of one leaf, in the inode: `struct ext4_extent_header`, `struct ext4_extent`.
fn extents(block: u32, blocks: u32) -> Vec<u8> {
    let mut fields = Fields::new(60);
    fields
        .u16(0, 0xF30A)
        .u16(2, 1)
        .u16(4, 4)
        .u16(12 + 4, blocks as u16)
        .u32(12 + 8, block);
    fields.0
}

/// A block of `struct ext4_dir_entry_2`, all of them directories. The last one takes the rest.
fn directory(entries: &[(&str, u32)]) -> Vec<u8> {
    let mut fields = Fields::new(BLOCK_BYTES as usize);
    let mut at = 0;
    for (index, (name, inode)) in entries.iter().enumerate() {
        let own = (8 + name.len()).next_multiple_of(4);
        let last = index == entries.len() - 1;
        let length = if last { BLOCK_BYTES as usize - at } else { own };
        fields
            .u32(at, *inode)
            .u16(at + 4, length as u16)
            .bytes(at + 6, &[name.len() as u8, 2])
            .bytes(at + 8, name.as_bytes());
        at += length;
    }
    fields.0
}

/// `journal_superblock_t`, big-endian: nothing to replay.
fn journal_superblock() -> Vec<u8> {
    let mut fields = Fields::new(BLOCK_BYTES as usize);
    let mut word = |at: usize, value: u32| {
        fields.bytes(at, &value.to_be_bytes());
    };
    word(0x00, 0xC03B_3998);
    word(0x04, 4);
    word(0x0C, BLOCK_BYTES as u32);
    word(0x10, JOURNAL_BLOCKS);
    // The first block of the log, and the first transaction.
    word(0x14, 1);
    word(0x18, 1);
    word(0x40, 1);
    fields.0
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn small_devices_are_refused() {
        assert_eq!(ext4(LEAST_BYTES - 1), None);
        assert!(ext4(LEAST_BYTES).is_some());
    }

    #[test]
    fn pieces_do_not_overlap_and_end_within_the_device() {
        let device = (300 << 20) + 777;
        let mut ends: Vec<(u64, u64)> = ext4(device)
            .expect("large enough")
            .iter()
            .map(|piece| match piece {
                Piece::Bytes { at, bytes } => (*at, at + bytes.len() as u64),
                Piece::Zeroes { at, bytes } => (*at, at + bytes),
            })
            .collect();
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        assert!(ends.iter().all(|(_, end)| *end <= device));
    }

    /// Of one group, of several, and with a last group that is too small.
    #[test]
    fn e2fsck_has_nothing_to_say() {
        const GROUP: u64 = 128 << 20;
        for bytes in [
            LEAST_BYTES,
            64 << 20,
            GROUP,
            GROUP + (1 << 20),
            10 * GROUP + (5 << 20),
            20 << 30,
        ] {
            let path = std::env::temp_dir().join(format!("mkfs-{}-{bytes}", std::process::id()));
            let file = File::create(&path).expect("a file");
            file.set_len(bytes).expect("a sparse file");
            for piece in ext4(bytes).expect("large enough") {
                if let Piece::Bytes { at, bytes } = piece {
                    file.write_all_at(&bytes, at).expect("written");
                }
            }
            let output = Command::new("e2fsck")
                .arg("-fn")
                .arg(&path)
                .output()
                .expect("e2fsprogs is installed");
            std::fs::remove_file(&path).expect("removed");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{bytes} bytes: {text}");
        }
    }
}
