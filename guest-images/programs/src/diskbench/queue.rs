//! Requests to a block device by the kernel's asynchronous I/O (io_setup(2)): real depth from one thread.
//!
//! What always holds: a buffer belongs either to the program or to the kernel. It is lent when its slot's request is submitted and comes back
//! with the completion; meanwhile nobody gets at it here.

use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;

/// What O_DIRECT wants buffers to be aligned to, on any disk: a page.
const ALIGNMENT: usize = 4096;

/// The transfer's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

impl Operation {
    /// `IOCB_CMD_PREAD` and `IOCB_CMD_PWRITE` of <linux/aio_abi.h>.
    fn code(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
        }
    }
}

/// `struct iocb` of <linux/aio_abi.h>, on a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ControlBlock {
    data: u64,
    key: u32,
    flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event_file: u32,
}

/// `struct io_event` of <linux/aio_abi.h>.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    data: u64,
    control_block: u64,
    result: i64,
    result2: i64,
}

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its slot, whose buffer is the program's again.
    pub slot: usize,
    /// Whether all bytes were transferred.
    pub whole: bool,
}

/// As many requests at once as there are slots, each with a buffer of the same size.
#[derive(Debug)]
pub struct Queue<'a> {
    file: &'a File,
    context: libc::c_ulong,
    buffer_bytes: usize,
    memory: Vec<u8>,
    /// Where in `memory` the first aligned byte is.
    first: usize,
    lent: Vec<bool>,
    to_submit: Vec<ControlBlock>,
    events: Vec<Event>,
}

impl<'a> Queue<'a> {
    /// A queue of `slots` requests of `buffer_bytes`, a multiple of 512, each.
    pub fn new(file: &'a File, slots: usize, buffer_bytes: usize) -> Result<Self, Error> {
        let mut context: libc::c_ulong = 0;
        let slots_asked: libc::c_long = slots as libc::c_long;
        // SAFETY: the kernel writes the context's number into a variable of ours.
        outcome(unsafe { libc::syscall(libc::SYS_io_setup, slots_asked, &raw mut context) })?;
        // Not zero, so that every page is there before anything is measured.
        let memory = vec![0x5A_u8; slots * buffer_bytes + ALIGNMENT];
        let first = memory.as_ptr().align_offset(ALIGNMENT);
        Ok(Self {
            file,
            context,
            buffer_bytes,
            memory,
            first,
            lent: vec![false; slots],
            to_submit: Vec::with_capacity(slots),
            events: vec![Event::default(); slots],
        })
    }

    /// The buffer of `slot`, which must not be under way.
    pub fn buffer(&mut self, slot: usize) -> &mut [u8] {
        assert!(!self.lent[slot], "slot {slot} is under way");
        let begin = self.first + slot * self.buffer_bytes;
        &mut self.memory[begin..begin + self.buffer_bytes]
    }

    /// Prepares a transfer of `slot`'s whole buffer, at `offset` of the device; [`Self::submit`] begins it.
    pub fn prepare(&mut self, slot: usize, operation: Operation, offset: u64) {
        let buffer = self.buffer(slot).as_mut_ptr() as u64;
        self.lent[slot] = true;
        self.to_submit.push(ControlBlock {
            data: slot as u64,
            opcode: operation.code(),
            file: self.file.as_raw_fd().cast_unsigned(),
            buffer,
            bytes: self.buffer_bytes as u64,
            offset: offset.cast_signed(),
            ..ControlBlock::default()
        });
    }

    /// Begins what was prepared.
    pub fn submit(&mut self) -> Result<(), Error> {
        let mut pointers: Vec<*mut ControlBlock> = Vec::with_capacity(self.to_submit.len());
        pointers.extend(self.to_submit.iter_mut().map(std::ptr::from_mut));
        let mut submitted = 0;
        while submitted < pointers.len() {
            let rest = &mut pointers[submitted..];
            // SAFETY: the pointers are to control blocks that the kernel copies before this returns. Their buffers are in `memory`, which lives
            // and stays where it is until `drop` has waited for every request, and are lent: nobody else uses them.
            submitted += outcome(unsafe {
                libc::syscall(
                    libc::SYS_io_submit,
                    self.context,
                    rest.len() as libc::c_long,
                    rest.as_mut_ptr(),
                )
            })?;
        }
        self.to_submit.clear();
        Ok(())
    }

    /// Waits for one completion at least, and returns those that are there.
    pub fn wait(&mut self) -> Result<Vec<Completion>, Error> {
        // SAFETY: the kernel writes at most as many events as the array has; there is no timeout.
        let count = outcome(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                1 as libc::c_long,
                self.events.len() as libc::c_long,
                self.events.as_mut_ptr(),
                std::ptr::null_mut::<libc::timespec>(),
            )
        })?;
        let mut completions = Vec::with_capacity(count);
        for event in &self.events[..count] {
            let slot = event.data as usize;
            self.lent[slot] = false;
            let whole = event.result == self.buffer_bytes as i64;
            completions.push(Completion { slot, whole });
        }
        Ok(completions)
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // SAFETY: the context is ours. This waits for the requests that are under way, so that `memory` outlives them.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn outcome(result: libc::c_long) -> Result<usize, Error> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_short_read_is_told() {
        let path = std::env::temp_dir().join(format!("diskbench-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let mut queue = Queue::new(&file, 4, 1024).expect("a queue");
        for slot in 0..4 {
            queue.buffer(slot).fill(slot as u8);
            queue.prepare(slot, Operation::Write, 1024 * slot as u64);
        }
        assert_eq!(all(&mut queue, 4), [true; 4]);
        for slot in 0..4 {
            queue.prepare(slot, Operation::Read, 1024 * (4 - slot as u64) - 512);
        }
        assert_eq!(all(&mut queue, 4), [false, true, true, true]);
        assert_eq!(queue.buffer(1)[..512], [2; 512]);
        assert_eq!(queue.buffer(1)[512..], [3; 512]);
    }

    /// Whether each slot's request was whole.
    fn all(queue: &mut Queue<'_>, count: usize) -> Vec<bool> {
        queue.submit().expect("submitted");
        let mut whole = vec![None; count];
        while whole.contains(&None) {
            for completion in queue.wait().expect("completions") {
                whole[completion.slot] = Some(completion.whole);
            }
        }
        whole.into_iter().flatten().collect()
    }
}
