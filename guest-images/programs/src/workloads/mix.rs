//! What integer programs do: a linked list is searched, reversed and sorted, matrices are multiplied, text is scanned by a state
//! machine, and all of it goes through a CRC. The same kinds of work as EEMBC's CoreMark has; not the same program.

/// Elements of the list.
const LIST: usize = 100;
/// Side of the matrices.
const SIDE: usize = 16;
const TEXT: &[u8] =
    b"5012,-874,+122,0xF0,1.5e3,T0.3e-1F,-110.700,35.54400,.1234500,+0.64400,invalid,2.x,,7";

/// An element: where the next one is, and what it holds.
#[derive(Clone, Copy)]
struct Element {
    next: Option<u16>,
    key: i16,
    index: u16,
}

/// Does everything `times` times.
pub fn run(times: u32) -> u32 {
    let mut crc = 0xFFFF;
    let mut list = List::new(0x3415);
    let mut matrices = Matrices::new(7);
    for time in 0..times {
        crc = list.work(time as i16, crc);
        crc = matrices.work(time as i16, crc);
        crc = scan(time as u8, crc);
    }
    u32::from(crc)
}

fn crc16(value: u16, mut crc: u16) -> u16 {
    for bit in 0..16 {
        let mixed = (crc ^ (value >> bit)) & 1;
        crc >>= 1;
        if mixed != 0 {
            crc ^= 0xA001;
        }
    }
    crc
}

struct List {
    elements: Vec<Element>,
    head: Option<u16>,
}

impl List {
    fn new(seed: u16) -> Self {
        let mut value = seed;
        let elements = (0..LIST as u16)
            .map(|index| {
                value = value.wrapping_mul(25_173).wrapping_add(13_849);
                let next = (usize::from(index) + 1 < LIST).then_some(index + 1);
                Element {
                    next,
                    key: value.cast_signed() >> 4,
                    index,
                }
            })
            .collect();
        Self {
            elements,
            head: Some(0),
        }
    }

    fn work(&mut self, wanted: i16, mut crc: u16) -> u16 {
        for offset in 0..10 {
            let found = self.find(wanted.wrapping_add(offset) & 0x7F);
            crc = crc16(found.map_or(0xFFFF, |element| element.index), crc);
            self.reverse();
        }
        self.sort(|element| i32::from(element.key));
        crc = self.walk(crc);
        self.sort(|element| i32::from(element.index));
        self.walk(crc)
    }

    fn find(&self, key: i16) -> Option<Element> {
        let mut next = self.head;
        while let Some(index) = next {
            let element = self.elements[usize::from(index)];
            if element.key & 0x7F == key {
                return Some(element);
            }
            next = element.next;
        }
        None
    }

    fn reverse(&mut self) {
        let mut reversed = None;
        while let Some(index) = self.head {
            let element = &mut self.elements[usize::from(index)];
            self.head = element.next;
            element.next = reversed;
            reversed = Some(index);
        }
        self.head = reversed;
    }

    /// By insertion: many comparisons, many pointers.
    fn sort(&mut self, key: impl Fn(Element) -> i32) {
        let mut sorted: Option<u16> = None;
        while let Some(index) = self.head {
            let element = self.elements[usize::from(index)];
            self.head = element.next;
            let mut before = None;
            let mut after = sorted;
            while let Some(candidate) = after {
                let other = self.elements[usize::from(candidate)];
                if key(other) >= key(element) {
                    break;
                }
                before = after;
                after = other.next;
            }
            self.elements[usize::from(index)].next = after;
            match before {
                Some(before) => self.elements[usize::from(before)].next = Some(index),
                None => sorted = Some(index),
            }
        }
        self.head = sorted;
    }

    fn walk(&self, mut crc: u16) -> u16 {
        let mut next = self.head;
        while let Some(index) = next {
            let element = self.elements[usize::from(index)];
            crc = crc16(element.key.cast_unsigned(), crc);
            next = element.next;
        }
        crc
    }
}

struct Matrices {
    a: Vec<i16>,
    b: Vec<i16>,
    product: Vec<i32>,
}

impl Matrices {
    fn new(seed: i16) -> Self {
        let values =
            |start: i16| (0..(SIDE * SIDE) as i16).map(move |i| i.wrapping_mul(start) % 97);
        Self {
            a: values(seed).collect(),
            b: values(seed + 4).collect(),
            product: vec![0; SIDE * SIDE],
        }
    }

    fn work(&mut self, offset: i16, mut crc: u16) -> u16 {
        for value in &mut self.a {
            *value = value.wrapping_add(offset) % 101;
        }
        for row in 0..SIDE {
            for column in 0..SIDE {
                let sum = (0..SIDE).fold(0_i32, |sum, k| {
                    let product =
                        i32::from(self.a[row * SIDE + k]) * i32::from(self.b[k * SIDE + column]);
                    sum.wrapping_add((product >> 2 & 15).wrapping_mul(product >> 5 & 127))
                });
                self.product[row * SIDE + column] = sum;
            }
        }
        for value in &self.product {
            crc = crc16(*value as u16, crc);
        }
        crc
    }
}

/// What a field of the text looks like so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Start,
    Sign,
    Integer,
    Fraction,
    Exponent,
    Invalid,
}

fn scan(noise: u8, mut crc: u16) -> u16 {
    let mut counts = [0_u16; 6];
    let mut field = Field::Start;
    for byte in TEXT.iter().cycle().take(4 * TEXT.len()) {
        let byte = if *byte == noise { b',' } else { *byte };
        field = match (field, byte) {
            (_, b',') => {
                counts[field as usize] += 1;
                Field::Start
            }
            (Field::Start, b'+' | b'-') => Field::Sign,
            (Field::Start | Field::Sign | Field::Integer, b'0'..=b'9') => Field::Integer,
            (Field::Start | Field::Sign | Field::Integer, b'.') => Field::Fraction,
            (Field::Fraction, b'0'..=b'9') => Field::Fraction,
            (Field::Integer | Field::Fraction, b'e' | b'E') => Field::Exponent,
            (Field::Exponent, b'+' | b'-' | b'0'..=b'9') => Field::Exponent,
            _ => Field::Invalid,
        };
    }
    for count in counts {
        crc = crc16(count, crc);
    }
    crc
}
