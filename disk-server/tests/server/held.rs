//! Storage whose writes stay under way for as long as a test wants.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
};

use disk_server::Storage;

/// Bytes in memory.
#[derive(Debug)]
pub struct Held {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inside {
    bytes: Vec<u8>,
    holding: bool,
    /// Writes that wait, by number.
    waiting: Vec<u64>,
    next: u64,
    /// One that need not wait.
    passing: Option<u64>,
}

impl Held {
    pub fn new(bytes: usize) -> Arc<Self> {
        let inside = Mutex::new(Inside {
            bytes: vec![0; bytes],
            holding: false,
            waiting: Vec::new(),
            next: 0,
            passing: None,
        });
        let changed = Condvar::new();
        Arc::new(Self { inside, changed })
    }

    /// Writes wait until the returned value is dropped.
    pub fn hold(self: &Arc<Self>) -> Holding {
        self.inside.lock().unwrap().holding = true;
        Holding(Arc::clone(self))
    }

    /// Lets the newest of the writes that wait go on.
    pub fn let_pass_newest(&self) {
        let mut inside = self.inside.lock().unwrap();
        inside.passing = inside.waiting.last().copied();
        self.changed.notify_all();
    }

    /// Waits until this many writes wait.
    pub async fn until_waiting(self: &Arc<Self>, waiting: usize) {
        let held = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || {
            let inside = held.inside.lock().unwrap();
            let fewer = |inside: &mut Inside| inside.waiting.len() < waiting;
            drop(held.changed.wait_while(inside, fewer).unwrap());
        });
        found.await.unwrap();
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.inside.lock().unwrap().bytes.clone()
    }
}

/// Keeps writes waiting; also a test that fails lets them go on, else its threads would never end.
pub struct Holding(Arc<Held>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.inside.lock().unwrap().holding = false;
        self.0.changed.notify_all();
    }
}

impl Storage for Held {
    fn size_bytes(&self) -> u64 {
        self.inside.lock().unwrap().bytes.len() as u64
    }

    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let inside = self.inside.lock().unwrap();
        data.copy_from_slice(&inside.bytes[offset as usize..][..data.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inside = self.inside.lock().unwrap();
        let number = inside.next;
        inside.next += 1;
        inside.waiting.push(number);
        self.changed.notify_all();
        let held = |inside: &mut Inside| inside.holding && inside.passing != Some(number);
        let mut inside = self.changed.wait_while(inside, held).unwrap();
        inside.waiting.retain(|waiting| *waiting != number);
        inside.bytes[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, _keep_space: bool) -> io::Result<()> {
        self.write_at(offset, &vec![0; length as usize])
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
