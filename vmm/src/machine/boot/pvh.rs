//! The PVH boot protocol (Xen, `docs/misc/pvh.pandoc`, "x86/HVM direct boot ABI"): the start info with the list of modules and
//! the memory map, and the state that it wants the vCPU in: 32-bit protected mode, paging off, flat segments, EBX at the start info.
//!
//! It has no place for a random seed: such a guest gets its randomness from virtio-rng.

use crate::machine::GuestMemory;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::GuestAddress;

use super::state::{BootState, Segment};
use super::zero_page::{COMMAND_LINE, Initrd};
use super::{BootError, usable_memory};

const START_INFO: u64 = 0x3000;
const MODULES: u64 = 0x3040;
const MEMORY_MAP: u64 = 0x3080;

// Xen, `include/public/arch-x86/hvm/start_info.h`.
const MAGIC: u32 = 0x336E_C578;
/// The first version with a memory map.
const VERSION: u32 = 1;
const MEMORY_MAP_RAM: u32 = 1;

/// Writes start info, modules, memory map and descriptor table; the state to begin at `entry` with them.
pub fn write(
    memory: &GuestMemory,
    memory_end: u64,
    initrd: Option<Initrd>,
    entry: u32,
) -> Result<BootState, BootError> {
    write_start_info(memory, memory_end, initrd)?;
    // The protocol's own words: a task segment with base 0. The guest never switches tasks by it.
    let state = BootState::new(memory, entry.into(), Segment::CODE_32, Segment::task(0))?;
    Ok(BootState {
        rbx: START_INFO,
        ..state
    })
}

fn write_start_info(
    memory: &GuestMemory,
    memory_end: u64,
    initrd: Option<Initrd>,
) -> Result<(), BootError> {
    let map = usable_memory(memory_end).map(|(start, end)| hvm_memmap_table_entry {
        addr: start,
        size: end - start,
        type_: MEMORY_MAP_RAM,
        reserved: 0,
    });
    let modules: Vec<_> = initrd
        .iter()
        .map(|initrd| hvm_modlist_entry {
            paddr: initrd.start,
            size: initrd.size,
            ..hvm_modlist_entry::default()
        })
        .collect();
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: initrd.map_or(0, |_| MODULES),
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..hvm_start_info::default()
    };
    let mut parameters = BootParams::new(&info, GuestAddress(START_INFO));
    parameters.set_sections(&map, GuestAddress(MEMORY_MAP));
    parameters.set_modules(&modules, GuestAddress(MODULES));
    PvhBootConfigurator::write_bootparams(&parameters, memory).map_err(BootError::from)
}
