//! A library that is loaded into a program before the C library and gives it another wall clock: the real one, moved by
//! what a file says, which is read each time. Nothing else changes: not monotonic time, not timers, not waits.
//!
//! The file is named by the variable `NETSIM_CLOCK` and holds three whole numbers: nanoseconds that the clock is ahead,
//! nanoseconds that it gains in a second, and the monotonic time from which on it gains them.
//!
//! It is built by the build script of the crate, without the standard library, and is no part of the crate itself.

#![no_std]
#![expect(unsafe_code, reason = "these are functions of the C library, in place of its own")]

use core::ffi::{c_char, c_int, c_long, c_void};

const REALTIME: c_int = 0;
const MONOTONIC: c_int = 1;
const REALTIME_COARSE: c_int = 5;
const SECOND: i128 = 1_000_000_000;
/// `TIME_UTC` of C11.
const UTC: c_int = 1;
/// `O_RDONLY | O_CLOEXEC`
const READ: c_int = 0o2_000_000;
#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(not(target_arch = "x86_64"))]
const CLOCK_GETTIME: c_long = 113;

#[link(name = "c")]
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(file: c_int, room: *mut c_void, length: usize) -> isize;
    fn close(file: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

/// `struct timespec`, and `struct timeval` with microseconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Time {
    seconds: i64,
    part: i64,
}

/// `clock_gettime(2)`
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Time) -> c_int {
    // SAFETY: the kernel checks the address.
    let done = unsafe { syscall(CLOCK_GETTIME, clock, time) };
    if done == 0 && (clock == REALTIME || clock == REALTIME_COARSE) && !time.is_null() {
        // SAFETY: the kernel has just written there.
        unsafe { *time = moved(*time) };
    }
    if done == 0 { 0 } else { -1 }
}

/// `gettimeofday(2)`
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Time, _zone: *mut c_void) -> c_int {
    let now = now();
    if !time.is_null() {
        // SAFETY: the caller gives a place for it.
        unsafe { *time = Time { part: now.part / 1000, ..now } };
    }
    0
}

/// `time(2)`
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut i64) -> i64 {
    let now = now();
    if !place.is_null() {
        // SAFETY: the caller gives a place for it.
        unsafe { *place = now.seconds };
    }
    now.seconds
}

/// `timespec_get(3)`
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timespec_get(place: *mut Time, base: c_int) -> c_int {
    if base != UTC || place.is_null() {
        return 0;
    }
    // SAFETY: the caller gives a place for it.
    unsafe { *place = now() };
    base
}

fn now() -> Time {
    let mut time = Time { seconds: 0, part: 0 };
    // SAFETY: there is room for it.
    unsafe { clock_gettime(REALTIME, &raw mut time) };
    time
}

fn moved(time: Time) -> Time {
    // SAFETY: the C library gives each thread its place.
    let errno = unsafe { __errno_location() };
    // SAFETY: as above. Whoever asked for the time does not expect it to change.
    let before = unsafe { *errno };
    let [ahead, gains, since] = skew();
    // SAFETY: as above.
    unsafe { *errno = before };
    let mut monotonic = Time { seconds: 0, part: 0 };
    // SAFETY: there is room for it.
    unsafe { syscall(CLOCK_GETTIME, MONOTONIC, &raw mut monotonic) };
    let gained = (nanoseconds(monotonic) - i128::from(since)) * i128::from(gains) / SECOND;
    let all = nanoseconds(time) + i128::from(ahead) + gained;
    Time { seconds: all.div_euclid(SECOND) as i64, part: all.rem_euclid(SECOND) as i64 }
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * SECOND + i128::from(time.part)
}

/// What the file says; nothing if there is none.
fn skew() -> [i64; 3] {
    let mut room = [0_u8; 96];
    // SAFETY: the name ends with a zero, and so does the path; the room is as long as is said.
    let length = unsafe {
        let path = getenv(c"NETSIM_CLOCK".as_ptr());
        let file = if path.is_null() { -1 } else { open(path, READ) };
        if file < 0 {
            return [0; 3];
        }
        let length = read(file, room.as_mut_ptr().cast(), room.len());
        close(file);
        length
    };
    let (mut numbers, mut at) = ([0_i64; 3], 0);
    let (mut value, mut negative, mut digits) = (0_i64, false, false);
    let length = if length < 0 { 0 } else { length as usize };
    // One more, which ends the last number.
    let text = room.iter().take(length).copied().chain(core::iter::once(b' '));
    for byte in text {
        match byte {
            b'-' => negative = true,
            b'0'..=b'9' => {
                value = value.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
                digits = true;
            }
            _ if digits => {
                if let Some(place) = numbers.get_mut(at) {
                    *place = if negative { value.wrapping_neg() } else { value };
                }
                (value, negative, digits) = (0, false, false);
                at += 1;
            }
            _ => {}
        }
    }
    numbers
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
