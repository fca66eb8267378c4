//! The control message that says what a record carries: `TLS_SET_RECORD_TYPE` to the kernel, `TLS_GET_RECORD_TYPE` from it
//! (Documentation/networking/tls.rst).

use std::ffi::c_int;

/// One control message with a record type, and room for one: the kernel's `cmsghdr`, the type behind it, and padding.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct RecordType {
    /// Of header and content, without the padding.
    len: usize,
    level: c_int,
    kind: c_int,
    record: u8,
    padding: [u8; size_of::<usize>() - 1],
}

/// Header and content.
const LEN: usize = size_of::<usize>() + 2 * size_of::<c_int>() + 1;

impl RecordType {
    /// What is sent beside a record of this type.
    pub(super) fn of(record: u8) -> Self {
        Self { len: LEN, level: libc::SOL_TLS, kind: libc::TLS_SET_RECORD_TYPE, record, padding: Default::default() }
    }

    /// What the kernel has written to it: the type of the record that was received. `len` is how much control data it says there
    /// is, `flags` what it says of the message. `None`: it has not said, in full and nothing else, what the record is.
    pub(super) fn said_by_kernel(&self, len: usize, flags: c_int) -> Option<u8> {
        // The last message may come without its padding.
        let whole = (LEN..=size_of::<Self>()).contains(&len) && self.len == LEN && flags & libc::MSG_CTRUNC == 0;
        (whole && self.level == libc::SOL_TLS && self.kind == libc::TLS_GET_RECORD_TYPE).then_some(self.record)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn it_lies_in_memory_as_the_kernel_has_it() {
        assert_eq!(offset_of!(RecordType, level), offset_of!(libc::cmsghdr, cmsg_level));
        assert_eq!(offset_of!(RecordType, kind), offset_of!(libc::cmsghdr, cmsg_type));
        assert_eq!(offset_of!(RecordType, record), size_of::<libc::cmsghdr>());
        // CMSG_LEN and CMSG_SPACE of one byte (cmsg(3)).
        assert_eq!(LEN, size_of::<libc::cmsghdr>() + 1);
        assert_eq!(size_of::<RecordType>(), size_of::<libc::cmsghdr>() + size_of::<usize>());
    }

    #[test]
    fn a_record_type_is_believed_only_if_it_is_said_in_full_and_alone() {
        let said = RecordType { kind: libc::TLS_GET_RECORD_TYPE, ..RecordType::of(22) };
        let space = size_of::<RecordType>();
        let changed = |change: fn(&mut RecordType)| {
            let mut changed = said;
            change(&mut changed);
            changed
        };
        let table = [
            ("said", said, space, 0, Some(22)),
            ("without its padding", said, LEN, 0, Some(22)),
            ("at the end of a record", said, space, libc::MSG_EOR, Some(22)),
            ("an unknown type is told on", changed(|c| c.record = 99), space, 0, Some(99)),
            ("nothing was said", said, 0, 0, None),
            ("less than it says", said, LEN - 1, 0, None),
            ("more than there is room for", said, space + 1, 0, None),
            ("something was left out", said, space, libc::MSG_CTRUNC, None),
            ("another level", changed(|c| c.level = libc::SOL_SOCKET), space, 0, None),
            ("another kind", changed(|c| c.kind = libc::TLS_SET_RECORD_TYPE), space, 0, None),
            ("another length", changed(|c| c.len = LEN + 1), space, 0, None),
            ("what it was before", RecordType::default(), space, 0, None),
        ];
        for (case, message, len, flags, expected) in table {
            assert_eq!(message.said_by_kernel(len, flags), expected, "{case}");
        }
    }
}
