//! The devices together: wiring, and what holds for any guest.

mod any_guest;
mod disks;

use vm_memory::GuestAddress;

use super::*;
use crate::machine::layout::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

fn devices() -> Devices {
    let config = DevicesConfig {
        unix_time_s: 1_763_706_541,
        mac: Some(MAC),
        memory_bytes: 64 << 20,
        disks: vec![disk(false), disk(true)],
    };
    Devices::new(&config)
}

/// A disk of 128 KiB.
fn disk(read_only: bool) -> BlockConfig {
    BlockConfig {
        sectors: 256,
        read_only,
        id: "disk".to_owned(),
    }
}

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
}

/// Both interrupt controllers, as Linux sets them up.
fn set_up_pic(devices: &mut Devices) {
    for (port, vector, wiring) in [(PIC_MASTER_PORT, 0x30, 4), (PIC_SLAVE_PORT, 0x38, 2)] {
        devices.port_write(port, 1, 0x11, 0);
        for value in [vector, wiring, 1, 0] {
            devices.port_write(port + 1, 1, value, 0);
        }
    }
}

#[test]
fn the_timer_ticks_through_the_interrupt_controller() {
    let mut devices = devices();
    set_up_pic(&mut devices);
    devices.port_write(PIT_PORT + 3, 1, 0x34, 0);
    devices.port_write(PIT_PORT, 1, 0x9C, 0);
    devices.port_write(PIT_PORT, 1, 0x2E, 0);
    let memory = memory();
    for _ in 0..5 {
        let deadline = devices.wants(&memory).deadline_ns.unwrap();
        devices.tick(deadline - 1);
        assert!(!devices.interrupt_pending());
        devices.tick(deadline);
        assert!(devices.interrupt_pending() && !devices.other_interrupt_pending());
        assert_eq!(devices.acknowledge_interrupt(), 0x30);
        devices.port_write(PIC_MASTER_PORT, 1, 0x20, 0);
        assert!(!devices.interrupt_pending());
    }
}

#[test]
fn every_interrupt_line_has_its_vector() {
    let mut devices = devices();
    set_up_pic(&mut devices);
    devices.port_write(SERIAL_PORT + 1, 1, 0x01, 0);
    devices.console_input(b"x");
    assert!(devices.other_interrupt_pending());
    assert_eq!(devices.acknowledge_interrupt(), 0x34);
    devices.port_write(RTC_PORT, 2, 0x120B, 0);
    devices.tick(1_000_000_000);
    assert_eq!(devices.acknowledge_interrupt(), 0x38);
}

#[test]
fn console_bytes_leave_in_runs() {
    let mut devices = devices();
    for byte in b"login: \nab" {
        devices.port_write(SERIAL_PORT, 1, (*byte).into(), 0);
    }
    assert_eq!(
        devices.take_effects(),
        [Effect::Print(b"login: \n".to_vec())]
    );
    assert_eq!(devices.take_effects(), []);
    devices.flush_console();
    assert_eq!(devices.take_effects(), [Effect::Print(b"ab".to_vec())]);
    devices.flush_console();
    assert_eq!(devices.take_effects(), []);
}

#[test]
fn ports_where_nothing_answers_read_all_ones() {
    let mut devices = devices();
    assert_eq!(devices.port_read(0x80, 1, 0), 0xFF);
    assert_eq!(devices.port_read(0x80, 2, 0), 0xFFFF);
    assert_eq!(devices.port_read(0xCFC, 4, 0), u32::MAX);
    let before = devices.clone();
    devices.port_write(0x80, 4, u32::MAX, 0);
    assert_eq!(devices, before);
}

#[test]
fn wide_accesses_are_split_into_bytes() {
    let mut devices = devices();
    devices.port_write(RTC_PORT, 2, 0x5A7F, 0);
    devices.port_write(RTC_PORT, 1, 0x7F, 0);
    assert_eq!(devices.port_read(RTC_PORT, 2, 0), 0x5AFF);
    devices.port_write(0xFFFF, 4, u32::MAX, 0);
    let now_ns = 3_000_000_000;
    let value = devices.port_read(PM_TIMER_PORT, 4, now_ns);
    assert_eq!(value, pm_timer::value(now_ns));
    assert_eq!(devices.port_read(PM_TIMER_PORT + 2, 1, now_ns), value >> 16);
    assert_eq!(devices.port_read(PM_TIMER_PORT, 2, now_ns), value & 0xFFFF);
}

#[test]
fn pci_probing_does_not_reset() {
    let mut devices = devices();
    devices.port_write(0xCF8, 4, 0xFFFF_FFFF, 0);
    devices.port_write(RESET_PORT, 2, 0xFFFF, 0);
    assert!(!devices.reset_requested());
    devices.port_write(RESET_PORT, 1, 0x06, 0);
    assert!(devices.reset_requested());
}

#[test]
fn what_needs_the_time() {
    let mut devices = devices();
    assert!(devices.port_needs_time(PM_TIMER_PORT, false));
    assert!(!devices.port_needs_time(PM_TIMER_PORT, true));
    assert!(devices.port_needs_time(PIT_SPEAKER_PORT, false));
    assert!(devices.port_needs_time(PIT_PORT, false));
    devices.port_write(PIT_PORT + 3, 1, 0x00, 0);
    assert!(!devices.port_needs_time(PIT_PORT, false));
    assert!(!devices.port_needs_time(SERIAL_PORT, true));
    assert!(!devices.port_needs_time(RTC_PORT, true));
    assert!(devices.port_needs_time(RTC_PORT + 1, false));
    devices.port_write(RTC_PORT, 1, 0x0D, 0);
    assert!(!devices.port_needs_time(RTC_PORT + 1, false));
}

#[test]
fn mmio_windows() {
    let (mut devices, memory) = (devices(), memory());
    let mut word = [0; 4];
    for (base, id) in [
        (NET_MMIO, 1),
        (RNG_MMIO, 4),
        (disk_mmio(0), 2),
        (disk_mmio(1), 2),
    ] {
        devices.mmio_read(base, &mut word);
        assert_eq!(&word, b"virt");
        devices.mmio_read(base + 8, &mut word);
        assert_eq!(u32::from_le_bytes(word), id);
    }
    for address in [
        0,
        NET_MMIO - 2,
        RNG_MMIO - 2,
        RNG_MMIO + MMIO_STRIDE - 2,
        disk_mmio(2),
        disk_mmio(MAX_DISKS),
        u64::MAX,
    ] {
        devices.mmio_read(address, &mut word);
        assert_eq!(word, [0xFF; 4]);
        devices.mmio_write(address, &word, &memory);
    }
}

#[test]
fn a_machine_without_a_card() {
    let config = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: 1 << 20,
        disks: vec![],
    };
    let (mut devices, memory) = (Devices::new(&config), memory());
    let mut word = [0; 4];
    devices.mmio_read(NET_MMIO, &mut word);
    assert_eq!(word, [0xFF; 4]);
    devices.mmio_write(NET_MMIO + 0x70, &[1, 0, 0, 0], &memory);
    devices.receive_frame(&[0; 60], &memory);
    assert!(!devices.wants(&memory).frame);
}

#[test]
fn time_does_not_go_back() {
    let mut devices = devices();
    let value = devices.port_read(PM_TIMER_PORT, 4, 1_000_000_000);
    assert_eq!(devices.port_read(PM_TIMER_PORT, 4, 5), value);
}

#[test]
#[should_panic(expected = "effects are taken before")]
fn effects_are_not_forgotten_in_a_digest() {
    let mut devices = devices();
    devices.port_write(SERIAL_PORT, 1, u32::from(b'\n'), 0);
    devices.digest_into(&mut blake3::Hasher::new());
}
