use super::Which::{Master, Slave};
use super::*;

/// Initialised as Linux does it: vectors 0x30 and 0x38, nothing masked.
fn ready() -> PicPair {
    with_icw4(0x01)
}

fn with_icw4(icw4: u8) -> PicPair {
    let mut pic = PicPair::new();
    for (which, vector, wiring) in [(Master, 0x30, 4), (Slave, 0x38, 2)] {
        pic.write(which, false, 0x11);
        pic.write(which, true, vector);
        pic.write(which, true, wiring);
        pic.write(which, true, icw4);
        pic.write(which, true, 0);
    }
    pic
}

fn pulse(pic: &mut PicPair, line: u8) {
    pic.set_irq(line, false);
    pic.set_irq(line, true);
}

fn end_of_interrupt(pic: &mut PicPair, which: Which) {
    pic.write(which, false, 0x20);
}

/// IRR, or ISR.
fn shown(pic: &mut PicPair, which: Which, in_service: bool) -> u8 {
    pic.write(which, false, if in_service { 0x0B } else { 0x0A });
    pic.read(which, false)
}

#[test]
fn initialization_nothing_is_requested_before_it_ends() {
    let mut pic = PicPair::new();
    pic.set_irq(0, true);
    assert!(!pic.interrupt_pending());
    pic.write(Master, false, 0x11);
    pic.write(Master, true, 0x30);
    pic.write(Master, true, 0x04);
    pulse(&mut pic, 0);
    assert!(!pic.interrupt_pending());
    pic.write(Master, true, 0x01);
    assert!(pic.interrupt_pending());
    assert_eq!(pic.acknowledge(), 0x30);
}

#[test]
fn initialization_single_without_icw4() {
    let mut pic = PicPair::new();
    pic.write(Master, false, 0x12);
    pic.write(Master, true, 0x47);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x45);
}

#[test]
fn icw1_clears_mask_service_and_edges() {
    let mut pic = ready();
    pic.write(Master, true, 0xFE);
    pulse(&mut pic, 0);
    pic.acknowledge();
    pulse(&mut pic, 0);
    pic.write(Master, false, 0x13);
    pic.write(Master, true, 0x30);
    pic.write(Master, true, 0x01);
    assert_eq!(pic.read(Master, true), 0);
    assert_eq!(shown(&mut pic, Master, true), 0);
    // The line is still high: it must fall and rise to request.
    assert!(!pic.interrupt_pending());
    pulse(&mut pic, 0);
    assert!(pic.interrupt_pending());
}

#[test]
fn edge_trigger_one_request_for_an_edge() {
    let mut pic = ready();
    pic.set_irq(4, true);
    assert_eq!(pic.acknowledge(), 0x34);
    end_of_interrupt(&mut pic, Master);
    assert!(!pic.interrupt_pending());
    pic.set_irq(4, true);
    assert!(!pic.interrupt_pending());
    pulse(&mut pic, 4);
    assert!(pic.interrupt_pending());
}

#[test]
fn edge_trigger_an_edge_during_service_is_kept() {
    let mut pic = ready();
    pulse(&mut pic, 4);
    pic.acknowledge();
    pulse(&mut pic, 4);
    assert!(!pic.interrupt_pending());
    assert!(pic.other_interrupt_pending());
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x34);
}

#[test]
fn edge_trigger_a_line_that_falls_withdraws_its_request() {
    let mut pic = ready();
    pic.set_irq(4, true);
    pic.set_irq(4, false);
    assert!(!pic.interrupt_pending());
}

#[test]
fn level_trigger_by_elcr() {
    let mut pic = ready();
    pic.set_elcr(Slave, 0xFF);
    assert_eq!(pic.elcr(Slave), 0xDE);
    pic.set_elcr(Master, 0xFF);
    assert_eq!(pic.elcr(Master), 0xF8);
    pic.set_irq(10, true);
    assert_eq!(pic.acknowledge(), 0x3A);
    end_of_interrupt(&mut pic, Slave);
    end_of_interrupt(&mut pic, Master);
    assert!(pic.interrupt_pending());
    pic.set_irq(10, false);
    assert!(!pic.interrupt_pending());
    // A line that is already up when it becomes level-triggered.
    pic.set_elcr(Slave, 0);
    pic.set_irq(11, true);
    pic.acknowledge();
    pic.set_elcr(Slave, 0x08);
    end_of_interrupt(&mut pic, Slave);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x3B);
}

#[test]
fn fully_nested_mode() {
    let mut pic = ready();
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 5);
    assert!(!pic.interrupt_pending());
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    assert_eq!(shown(&mut pic, Master, true), 0x12);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(shown(&mut pic, Master, true), 0x10);
    assert_eq!(shown(&mut pic, Master, false), 0x20);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x35);
}

#[test]
fn mask_holds_requests_back_without_losing_them() {
    let mut pic = ready();
    pic.write(Master, true, 0x10);
    pulse(&mut pic, 4);
    assert!(!pic.interrupt_pending() && !pic.other_interrupt_pending());
    assert_eq!(pic.read(Master, true), 0x10);
    pic.write(Master, true, 0x00);
    assert_eq!(pic.acknowledge(), 0x34);
}

#[test]
fn specific_eoi() {
    let mut pic = ready();
    for line in [4, 1] {
        pulse(&mut pic, line);
        pic.acknowledge();
    }
    pic.write(Master, false, 0x64);
    assert_eq!(shown(&mut pic, Master, true), 0x02);
}

#[test]
fn automatic_eoi() {
    let mut pic = with_icw4(0x03);
    pulse(&mut pic, 4);
    pic.acknowledge();
    assert_eq!(shown(&mut pic, Master, true), 0);
    pulse(&mut pic, 4);
    assert!(pic.interrupt_pending());
}

#[test]
fn rotation_on_non_specific_eoi() {
    let mut pic = ready();
    pulse(&mut pic, 4);
    pic.acknowledge();
    pic.write(Master, false, 0xA0);
    for line in [0, 4, 5] {
        pulse(&mut pic, line);
    }
    // Line 4 is the lowest now, 5 the highest.
    for vector in [0x35, 0x30, 0x34] {
        assert_eq!(pic.acknowledge(), vector);
        end_of_interrupt(&mut pic, Master);
    }
}

#[test]
fn rotation_on_automatic_eoi() {
    let mut pic = with_icw4(0x03);
    pic.write(Master, false, 0x80);
    pulse(&mut pic, 0);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x30);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x31);
    assert_eq!(pic.acknowledge(), 0x30);
    pic.write(Master, false, 0x00);
    pulse(&mut pic, 0);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
}

#[test]
fn specific_rotation() {
    let mut pic = ready();
    // Set priority: line 5 the lowest, so that 6 is the highest.
    pic.write(Master, false, 0xC5);
    pulse(&mut pic, 0);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x36);
    // Rotate on specific EOI: line 6 the lowest.
    pic.write(Master, false, 0xE6);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x30);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn special_mask_mode_lets_lower_lines_in() {
    let mut pic = ready();
    pulse(&mut pic, 1);
    pic.acknowledge();
    pulse(&mut pic, 6);
    assert!(!pic.interrupt_pending());
    pic.write(Master, true, 0x02);
    pic.write(Master, false, 0x68);
    assert_eq!(pic.acknowledge(), 0x36);
    // A non-specific EOI leaves the masked in-service bit alone.
    end_of_interrupt(&mut pic, Master);
    assert_eq!(shown(&mut pic, Master, true), 0x02);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(shown(&mut pic, Master, true), 0x02);
    pic.write(Master, false, 0x48);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(shown(&mut pic, Master, true), 0);
}

#[test]
fn poll_command_acknowledges() {
    let mut pic = ready();
    pic.write(Master, false, 0x0C);
    assert_eq!(pic.read(Master, false), 0x00);
    pulse(&mut pic, 3);
    pic.write(Master, false, 0x0C);
    assert_eq!(pic.read(Master, false), 0x83);
    assert!(!pic.interrupt_pending());
    assert_eq!(shown(&mut pic, Master, true), 0x08);
}

#[test]
fn cascade_serves_the_slave_between_lines_1_and_3() {
    let mut pic = ready();
    for line in [3, 10, 8, 1] {
        pulse(&mut pic, line);
    }
    assert_eq!(pic.acknowledge(), 0x31);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x38);
    assert_eq!(shown(&mut pic, Master, true), 0x04);
    assert_eq!(shown(&mut pic, Slave, true), 0x01);
    end_of_interrupt(&mut pic, Slave);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x3A);
    end_of_interrupt(&mut pic, Slave);
    end_of_interrupt(&mut pic, Master);
    assert_eq!(pic.acknowledge(), 0x33);
}

#[test]
fn cascade_does_not_lose_a_higher_request_during_service() {
    let mut pic = ready();
    pulse(&mut pic, 11);
    assert_eq!(pic.acknowledge(), 0x3B);
    pulse(&mut pic, 8);
    assert!(!pic.interrupt_pending());
    // Linux: EOI to the slave, then to the master.
    pic.write(Slave, false, 0x63);
    pic.write(Master, false, 0x62);
    assert_eq!(pic.acknowledge(), 0x38);
}

#[test]
fn special_fully_nested_mode_lets_the_slave_interrupt_itself() {
    let mut pic = with_icw4(0x11);
    pulse(&mut pic, 11);
    pic.acknowledge();
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
}

#[test]
fn spurious_vectors() {
    let mut pic = ready();
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(shown(&mut pic, Master, true), 0);
}

#[test]
fn other_requests_beside_the_timer() {
    let mut pic = ready();
    pulse(&mut pic, 0);
    assert!(pic.interrupt_pending() && !pic.other_interrupt_pending());
    pulse(&mut pic, 10);
    assert!(pic.other_interrupt_pending());
    pic.write(Master, true, 0x04);
    assert!(!pic.other_interrupt_pending());
}
