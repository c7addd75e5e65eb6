//! A kernel file of any format that can be booted, and the way into it.

use crate::machine::GuestMemory;
use linux_loader::loader::bootparam::setup_header;

use super::bz_image::{self, BzImage};
use super::elf;
use super::tsc_rewrite::{self, UntrappedSites};
use super::zero_page;
use super::{BootError, BootProtocol, TscRewrite};

/// A kernel file that was read and checked as far as that goes without guest memory.
pub enum Kernel {
    /// It unpacks itself.
    BzImage(BzImage),
    /// It is there as it runs.
    Elf(elf::Kernel),
}

/// How a kernel is entered.
pub enum Entry {
    /// Linux's 64-bit boot protocol, at this physical address; the setup header goes into the zero page.
    Linux64 { address: u64, header: setup_header },
    /// PVH, at this physical address.
    Pvh { address: u32 },
}

impl Entry {
    /// The initial RAM disk ends here at the latest.
    pub fn initrd_limit(&self) -> u64 {
        match self {
            Self::Linux64 { header, .. } => u64::from(header.initrd_addr_max) + 1,
            Self::Pvh { .. } => zero_page::INITRD_LIMIT,
        }
    }

    /// Bytes of the longest command line, without the final NUL.
    pub fn command_line_limit(&self) -> usize {
        let kernel = match self {
            Self::Linux64 { header, .. } => header.cmdline_size,
            Self::Pvh { .. } => u32::MAX,
        };
        (kernel as usize).min(zero_page::COMMAND_LINE_MAX)
    }
}

/// What loading did to the kernel.
#[derive(Default)]
pub struct Rewriting {
    /// See [`super::Loaded::tsc_sites`].
    pub sites: usize,
    /// See [`super::Loaded::untrapped`].
    pub untrapped: UntrappedSites,
}

impl Kernel {
    /// Reads the file's headers.
    pub fn parse(image: &[u8]) -> Result<Self, BootError> {
        Ok(if bz_image::has_magic(image) {
            Self::BzImage(BzImage::parse(image)?)
        } else {
            Self::Elf(elf::Kernel::parse(image)?)
        })
    }

    /// First address after all that the kernel needs, if that fits into memory that ends at `memory_end`.
    pub fn check_fits(&self, memory_end: u64) -> Result<u64, BootError> {
        match self {
            Self::BzImage(kernel) => kernel.check_fits(memory_end),
            Self::Elf(kernel) => kernel.check_fits(memory_end),
        }
    }

    /// The way in by `protocol`. The kernel must have been found to fit.
    pub fn entry(&self, protocol: BootProtocol) -> Result<Entry, BootError> {
        match (self, protocol) {
            (Self::BzImage(_), BootProtocol::Pvh) => Err(BootError::NoPvhEntry),
            (Self::BzImage(kernel), _) => Ok(Entry::Linux64 {
                address: kernel.entry(),
                header: kernel.header(),
            }),
            (Self::Elf(kernel), BootProtocol::Linux64) => elf_linux64(kernel),
            (Self::Elf(kernel), BootProtocol::Pvh) => elf_pvh(kernel),
            (Self::Elf(kernel), BootProtocol::Auto) => match elf_linux64(kernel) {
                // What is wrong with the PVH entry matters only where there is no other.
                Err(BootError::No64BitEntry) => elf_pvh(kernel),
                Err(error) => elf_pvh(kernel).map_err(|_| error),
                entry => entry,
            },
        }
    }

    /// Copies the kernel into `memory`; its time-stamp reads trap afterwards, if that is asked for.
    pub fn load(
        &self,
        memory: &GuestMemory,
        image: &[u8],
        tsc: TscRewrite,
    ) -> Result<Rewriting, BootError> {
        match (self, tsc) {
            (Self::BzImage(_), TscRewrite::Rewrite) => {
                Err(BootError::NotRewritable { what: "compressed" })
            }
            (Self::BzImage(kernel), TscRewrite::Leave) => {
                kernel.load(memory, image)?;
                Ok(Rewriting::default())
            }
            (Self::Elf(kernel), TscRewrite::Rewrite) if !kernel.is_64_bit => {
                Err(BootError::NotRewritable {
                    what: "32-bit code",
                })
            }
            (Self::Elf(kernel), TscRewrite::Rewrite) => {
                let rewritten = tsc_rewrite::rewrite(image)?;
                kernel.load(memory, &rewritten.image)?;
                Ok(Rewriting {
                    sites: rewritten.sites,
                    untrapped: rewritten.untrapped,
                })
            }
            (Self::Elf(kernel), TscRewrite::Leave) => {
                kernel.load(memory, image)?;
                Ok(Rewriting::default())
            }
        }
    }
}

fn elf_linux64(kernel: &elf::Kernel) -> Result<Entry, BootError> {
    Ok(Entry::Linux64 {
        address: kernel.entry_64()?,
        header: zero_page::plain_header(),
    })
}

fn elf_pvh(kernel: &elf::Kernel) -> Result<Entry, BootError> {
    Ok(Entry::Pvh {
        address: kernel.entry_pvh()?,
    })
}
