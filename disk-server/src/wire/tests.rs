use arbiter::Identity;
use proptest::prelude::*;

use super::*;

fn request(command: Command, offset: u64, length: u32) -> Request {
    Request {
        flags: 0,
        command,
        cookie: 7,
        offset,
        length,
    }
}

#[test]
fn what_lies_beyond_the_export_is_refused_by_kind() {
    let flags = flag::HAS_FLAGS;
    let check = |command, offset, length| request(command, offset, length).check(1024, flags);
    assert_eq!(check(Command::Read, 0, 1024), Ok(()));
    assert_eq!(check(Command::Read, 1, 1024), Err(ErrorCode::Invalid));
    assert_eq!(check(Command::Write, 1024, 1), Err(ErrorCode::NoSpace));
    assert_eq!(check(Command::Trim, 512, 513), Err(ErrorCode::Invalid));
    assert_eq!(
        check(Command::WriteZeroes, u64::MAX, 2),
        Err(ErrorCode::NoSpace)
    );
    // A flush has no range.
    assert_eq!(check(Command::Flush, u64::MAX, 2), Ok(()));
    assert_eq!(check(Command::Unknown(7), 0, 1), Err(ErrorCode::Invalid));
}

#[test]
fn who_may_only_read_can_change_nothing() {
    let flags = flag::HAS_FLAGS | flag::READ_ONLY;
    for command in [Command::Write, Command::Trim, Command::WriteZeroes] {
        let refused = request(command, 0, 512).check(1024, flags);
        assert_eq!(refused, Err(ErrorCode::NotPermitted), "{command:?}");
    }
    assert_eq!(request(Command::Read, 0, 512).check(1024, flags), Ok(()));
}

#[test]
fn flags_are_refused_where_they_mean_nothing() {
    let mut asked = request(Command::Write, 0, 512);
    asked.flags = command_flag::FUA;
    assert_eq!(asked.check(1024, flag::HAS_FLAGS), Ok(()));
    asked.flags = command_flag::NO_HOLE;
    assert_eq!(asked.check(1024, flag::HAS_FLAGS), Err(ErrorCode::Invalid));
}

#[test]
fn a_write_that_is_too_long_is_not_read_in() {
    let bytes = request(Command::Write, 0, MAX_DATA_BYTES + 1).encode();
    assert!(matches!(
        Request::decode(&bytes),
        Err(WireFault::Length { .. })
    ));
}

#[test]
fn the_greeting_is_the_protocols() {
    assert_eq!(&GREETING[..16], b"NBDMAGICIHAVEOPT");
    assert_eq!(check_greeting(&GREETING), Ok(()));
    let mut oldstyle = GREETING;
    oldstyle[15] ^= 1;
    assert_eq!(check_greeting(&oldstyle), Err(WireFault::Magic("greeting")));
}

#[test]
fn options_come_back_as_they_were() {
    let identity = Identity::from_bytes([9; 16]);
    let name = "disk".to_owned();
    let asks = [
        Ask::ExportName(name.clone()),
        Ask::Abort,
        Ask::List,
        Ask::Info {
            name: name.clone(),
            block_size: true,
            go: false,
        },
        Ask::Info {
            name,
            block_size: false,
            go: true,
        },
        Ask::Bind(Binding {
            term: 1 << 40,
            identity,
        }),
        Ask::TakeOver(identity),
    ];
    for ask in asks {
        let (option, data) = ask.encode();
        assert_eq!(Ask::decode(option, &data), Ok(ask.clone()));
        let bytes = encode_option(&ask);
        let mut header = [0; OPTION_HEADER_BYTES];
        header.copy_from_slice(&bytes[..OPTION_HEADER_BYTES]);
        let length = data.len() as u32;
        assert_eq!(
            OptionHeader::decode(&header),
            Ok(OptionHeader { option, length })
        );
        if !matches!(ask, Ask::Abort | Ask::ExportName(_)) {
            let longer = [data, vec![0]].concat();
            assert!(
                Ask::decode(option, &longer).is_err(),
                "{ask:?} with a byte more"
            );
        }
    }
}

#[test]
fn an_export_is_read_back_from_its_description() {
    let reply = OptionReply::export(4096, 0x0103);
    assert_eq!(reply.read_export(), Ok(Some((4096, 0x0103))));
    assert_eq!(OptionReply::block_sizes().read_export(), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_a_fault(option in 0u32..12, data in prop::collection::vec(any::<u8>(), 0..200)) {
        for option in [option, option::BIND, option::TAKE_OVER] {
            if let Ok(ask) = Ask::decode(option, &data) {
                let again = ask.encode();
                prop_assert_eq!(Ask::decode(again.0, &again.1), Ok(ask));
            }
        }
    }

    #[test]
    fn requests_and_replies_come_back(flags: u16, number: u16, cookie: u64, offset: u64, length in 0..=MAX_DATA_BYTES, error: u32) {
        let command = Command::from_number(number);
        let request = Request { flags, command, cookie, offset, length };
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        let result = match error { 0 => Ok(()), _ => Err(ErrorCode::Other(error)) };
        let bytes = Reply { cookie, result }.encode();
        prop_assert_eq!(Reply::decode(&bytes).map(|reply| reply.encode()), Ok(bytes));
    }
}
