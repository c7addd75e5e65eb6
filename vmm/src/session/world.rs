//! The world as the I/O thread sees it: tap, console and disks.
//!
//! In: effects that may happen. Out: frames and typed bytes, to the inbox. What always holds: nothing is sent but what
//! a session performs, and until it connects the world, what is received is thrown away.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::Instant,
};

use super::{SessionError, disks::Disks};
use crate::{
    effect::Effect,
    host::{Console, ConsoleOutput, HostError, MacAddress, Tap, Typed},
    inputs::inbox::Inbox,
};

/// Frames that are read from the tap at a time before anything else is looked at.
const FRAMES_AT_A_TIME: usize = 64;

/// From one announcement to the next: doubled each time, until it is longer than the last.
const FIRST_ANNOUNCEMENT_WAIT: Duration = Duration::from_millis(50);
const LAST_ANNOUNCEMENT_WAIT: Duration = Duration::from_millis(800);
/// Longest frame that is read from a tap, bytes: anything longer would not fit the guest's card.
const MAX_FRAME_BYTES: usize = 65_562;

fn tap_failed(doing: &'static str) -> impl Fn(std::io::Error) -> SessionError + Copy {
    move |source| SessionError::Tap { doing, source }
}

/// Tap, console and inbox of one replica.
pub struct World {
    tap: Option<AsyncFd<Tap>>,
    console: ConsoleOutput,
    typed: Option<mpsc::Receiver<Typed>>,
    disks: Arc<Disks>,
    inbox: Arc<Inbox>,
    connected: bool,
    announcement: Option<Announcement>,
    buffer: Vec<u8>,
}

/// An announcement that is to be made again.
#[derive(Clone, Copy, Debug)]
struct Announcement {
    mac: MacAddress,
    next_at: Instant,
    wait: Duration,
}

impl World {
    /// A world that is not connected to the machine yet. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If the tap cannot be watched.
    pub fn new(
        tap: Option<Tap>,
        console: &Console,
        disks: Arc<Disks>,
    ) -> Result<Self, SessionError> {
        let tap = tap.map(watch).transpose()?;
        let (console, typed) = (console.open()?, console.input()?);
        Ok(Self {
            tap,
            console,
            typed,
            inbox: disks.inbox(),
            disks,
            connected: false,
            announcement: None,
            buffer: vec![0; MAX_FRAME_BYTES],
        })
    }

    /// Where received frames and typed bytes go.
    #[must_use]
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// The machine's disks.
    #[must_use]
    pub fn disks(&self) -> Arc<Disks> {
        Arc::clone(&self.disks)
    }

    /// From now on what is received reaches the machine.
    pub fn connect(&mut self) {
        self.connected = true;
    }

    /// Tells the network where the machine now lives, now and a few times more: an announcement may be lost.
    ///
    /// # Errors
    /// If the tap is gone.
    pub fn announce(&mut self, mac: MacAddress) -> Result<(), SessionError> {
        self.announcement = Some(Announcement {
            mac,
            next_at: Instant::now(),
            wait: FIRST_ANNOUNCEMENT_WAIT,
        });
        self.announce_again()
    }

    /// Sends the announcement that is due.
    fn announce_again(&mut self) -> Result<(), SessionError> {
        let (Some(tap), Some(mut announcement)) = (&self.tap, self.announcement.take()) else {
            return Ok(());
        };
        tap.get_ref()
            .announce(announcement.mac)
            .map_err(tap_failed("send to"))?;
        announcement.next_at += announcement.wait;
        announcement.wait *= 2;
        if announcement.wait <= LAST_ANNOUNCEMENT_WAIT {
            self.announcement = Some(announcement);
        }
        Ok(())
    }

    /// Does what a machine wants done.
    ///
    /// # Errors
    /// If the console cannot be written. A frame that the tap does not take is lost, as on any network.
    pub fn perform(&mut self, effect: &Effect) -> Result<(), HostError> {
        match effect {
            Effect::SendFrame(bytes) => {
                if let Some(tap) = &self.tap {
                    // A full queue or a link that is down loses the frame; the guest's protocols mend it.
                    drop(tap.get_ref().write_frame(bytes));
                }
                Ok(())
            }
            Effect::Print(bytes) => self.console.write(bytes),
            Effect::Disk(request) => {
                // What may be done at once was done when it was recorded.
                if !self.disks.is_free(request) {
                    self.disks.submit(request.clone());
                }
                Ok(())
            }
        }
    }

    /// [`Self::perform`] for several outputs, in order.
    ///
    /// # Errors
    /// As [`Self::perform`].
    pub fn perform_all(&mut self, outputs: &[(u64, Effect)]) -> Result<(), HostError> {
        outputs
            .iter()
            .try_for_each(|(_, effect)| self.perform(effect))
    }

    /// Waits for something to arrive and passes it on. Cancel-safe.
    ///
    /// # Errors
    /// If the tap is gone, and [`SessionError::Quit`] if the user asked for it.
    pub async fn receive(&mut self) -> Result<(), SessionError> {
        let typed = async {
            match &mut self.typed {
                Some(typed) => typed.recv().await,
                None => std::future::pending().await,
            }
        };
        let frames = async {
            match &self.tap {
                Some(tap) => read_frames(tap, &mut self.buffer).await,
                None => std::future::pending().await,
            }
        };
        let announcement = async {
            match self.announcement {
                Some(announcement) => tokio::time::sleep_until(announcement.next_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = announcement => self.announce_again()?,
            why = self.disks.cut_off() => return Err(SessionError::CutOff(why)),
            typed = typed => match typed {
                Some(Typed::Bytes(bytes)) if self.connected => {
                    self.inbox.put_console(&bytes);
                }
                Some(Typed::Bytes(_)) => {}
                Some(Typed::Quit) => return Err(SessionError::Quit),
                None => self.typed = None,
            },
            frames = frames => {
                for frame in frames? {
                    if self.connected {
                        self.inbox.put_frame(frame);
                    }
                }
            }
        }
        Ok(())
    }
}

fn watch(tap: Tap) -> Result<AsyncFd<Tap>, SessionError> {
    // SAFETY: a `Tap` owns its file and keeps the same one open for as long as it lives.
    let watched = unsafe { AsyncFd::register_with_interest(tap, Interest::READABLE) };
    watched.map_err(|error| tap_failed("watch")(error.into()))
}

/// Waits for frames and reads a few.
async fn read_frames(
    tap: &AsyncFd<Tap>,
    buffer: &mut [u8],
) -> Result<VecDeque<Vec<u8>>, SessionError> {
    let failed = tap_failed("receive from");
    let mut frames = VecDeque::new();
    while frames.is_empty() {
        let mut ready = tap.readable().await.map_err(failed)?;
        while frames.len() < FRAMES_AT_A_TIME {
            let read = ready.try_io(|tap| {
                tap.get_ref()
                    .read_frame(buffer)?
                    .ok_or(std::io::ErrorKind::WouldBlock.into())
            });
            match read {
                Ok(Ok(length)) => frames.push_back(buffer[..length].to_vec()),
                Ok(Err(error)) => return Err(failed(error)),
                Err(_would_block) => break,
            }
        }
    }
    Ok(frames)
}
