use super::*;

const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCRATCH: u16 = 7;

/// As Linux leaves it: FIFOs on with trigger level 8, OUT2.
fn open() -> Serial {
    let mut serial = Serial::new();
    serial.write(FCR, 0x81);
    serial.write(MCR, 0x0B);
    serial
}

#[test]
fn linux_autoconfig_finds_a_16550a() {
    let mut serial = Serial::new();
    // drivers/tty/serial/8250/8250_port.c, autoconfig(): IER keeps four bits.
    serial.write(IER, 0);
    assert_eq!(serial.read(IER) & 0x0F, 0);
    serial.write(IER, 0xFF);
    assert_eq!(serial.read(IER), 0x0F);
    serial.write(IER, 0);
    // Loopback: RTS and OUT2 show as CTS and DCD.
    serial.write(MCR, 0x1A);
    assert_eq!(serial.read(MSR) & 0xF0, 0x90);
    serial.write(MCR, 0x08);
    // LCR 0xBF must show no EFR: the register there is IIR, and not 0.
    serial.write(LCR, 0xBF);
    assert_ne!(serial.read(IIR), 0);
    serial.write(LCR, 0);
    serial.write(FCR, 0x01);
    assert_eq!(serial.read(IIR) >> 6, 3);
    // Not a 16750: no 64-byte FIFO bit, with or without the divisor latch open.
    for line_control in [0x00, 0x80] {
        serial.write(LCR, line_control);
        serial.write(FCR, 0x21);
        assert_eq!(serial.read(IIR) & 0x20, 0);
    }
    serial.write(LCR, 0);
    serial.write(SCRATCH, 0x5A);
    assert_eq!(serial.read(SCRATCH), 0x5A);
}

#[test]
fn linux_startup_finds_neither_of_its_transmitter_bugs() {
    let mut serial = open();
    // serial8250_do_startup(): enabling THRI asserts, also a second time after IIR was read.
    serial.write(IER, 0x02);
    let first = serial.read(IIR);
    serial.write(IER, 0);
    serial.write(IER, 0x02);
    let second = serial.read(IIR);
    serial.write(IER, 0);
    assert_eq!((first & 0x0F, second & 0x0F), (0x02, 0x02));
    // UART_BUG_TXEN: with TEMT, IIR shows the interrupt.
    serial.write(IER, 0x02);
    assert_eq!(serial.read(LSR) & 0x40, 0x40);
    assert_eq!(serial.read(IIR) & 0x01, 0);
}

#[test]
fn divisor_latch_hides_data_and_ier() {
    let mut serial = open();
    serial.write(LCR, 0x83);
    assert_eq!(serial.write(DATA, 1), None);
    serial.write(IER, 2);
    assert_eq!((serial.read(DATA), serial.read(IER)), (1, 2));
    serial.write(LCR, 0x03);
    assert_eq!(serial.read(IER), 0);
    assert_eq!(serial.write(DATA, b'x'), Some(b'x'));
}

#[test]
fn transmitter_is_always_empty() {
    let mut serial = open();
    for byte in 0..=255 {
        assert_eq!(serial.read(LSR) & 0x60, 0x60);
        assert_eq!(serial.write(DATA, byte), Some(byte));
    }
}

#[test]
fn transmitter_interrupt_ends_with_the_read_that_shows_it() {
    let mut serial = open();
    serial.write(IER, 0x02);
    assert!(serial.interrupt());
    assert_eq!(serial.read(IIR), 0xC2);
    assert!(!serial.interrupt());
    assert_eq!(serial.read(IIR), 0xC1);
    serial.write(DATA, b'a');
    assert!(serial.interrupt());
    serial.write(IER, 0x00);
    assert!(!serial.interrupt());
    // Written again with the bit already set, it does not interrupt anew.
    serial.write(IER, 0x02);
    serial.read(IIR);
    serial.write(IER, 0x03);
    assert!(!serial.interrupt());
}

#[test]
fn received_data_comes_before_the_transmitter() {
    let mut serial = open();
    serial.write(IER, 0x03);
    serial.receive(b"12345678");
    assert_eq!(serial.read(IIR), 0xC4);
    // Below the trigger level it is a timeout.
    assert_eq!(serial.read(DATA), b'1');
    assert_eq!(serial.read(IIR), 0xCC);
    for byte in b"2345678" {
        assert_eq!(serial.read(LSR) & 0x01, 0x01);
        assert_eq!(serial.read(DATA), *byte);
    }
    assert_eq!(serial.read(LSR) & 0x01, 0);
    assert_eq!(serial.read(IIR), 0xC2);
    assert!(!serial.interrupt());
}

#[test]
fn received_data_interrupts_when_enabled_late() {
    let mut serial = open();
    serial.receive(b"x");
    assert!(!serial.interrupt());
    serial.write(IER, 0x01);
    assert!(serial.interrupt());
}

#[test]
fn overrun_shows_once() {
    let mut serial = open();
    serial.write(IER, 0x04);
    serial.receive(&[b'x'; RECEIVE_FIFO_BYTES]);
    assert_eq!(serial.input_room(), 0);
    assert!(!serial.interrupt());
    serial.receive(b"y");
    assert_eq!(serial.read(IIR), 0xC6);
    assert_eq!(serial.read(LSR) & 0x03, 0x03);
    assert_eq!(serial.read(LSR) & 0x03, 0x01);
    assert!(!serial.interrupt());
}

#[test]
fn fifo_control_clears_the_receiver() {
    for value in [0x83, 0x00] {
        let mut serial = open();
        serial.receive(b"abc");
        serial.write(FCR, value);
        assert_eq!(serial.input_room(), RECEIVE_FIFO_BYTES);
        assert_eq!(serial.read(LSR) & 0x01, 0);
    }
}

#[test]
fn loopback_returns_bytes_and_raises_modem_status() {
    let mut serial = open();
    serial.write(MCR, 0x10);
    serial.read(MSR);
    assert_eq!(serial.write(DATA, b'z'), None);
    assert_eq!(serial.read(DATA), b'z');
    serial.write(IER, 0x08);
    serial.write(MCR, 0x1F);
    assert_eq!(serial.read(IIR), 0xC0);
    assert_eq!(serial.read(MSR), 0xFB);
    assert_eq!(serial.read(MSR), 0xF0);
    // The ring indicator's delta is its trailing edge.
    serial.write(MCR, 0x1B);
    assert_eq!(serial.read(MSR), 0xB4);
    assert!(!serial.interrupt());
}

#[test]
fn an_edge_triggered_driver_that_drains_iir_misses_nothing() {
    let mut serial = open();
    serial.write(IER, 0x03);
    let mut rises = 0;
    let mut before = false;
    for round in 0..10u8 {
        serial.receive(&[round]);
        serial.write(DATA, round);
        rises += u32::from(serial.interrupt() && !before);
        // serial8250_interrupt(): until IIR says that there is none.
        while serial.read(IIR) & 0x01 == 0 {
            if serial.read(LSR) & 0x01 != 0 {
                assert_eq!(serial.read(DATA), round);
            }
        }
        before = serial.interrupt();
    }
    assert_eq!(rises, 10);
}
