//! The linker: one PTX goes in and comes out to be loaded. There is nothing to compile, so what stands for
//! the cubin is the PTX itself.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

use super::abi::{Handle, Out, put, put_if_wanted};
use super::exports;
use super::state::{current, driver, lock, new_handle};
use super::status::{Outcome, Status};
use crate::ptx::Module;

/// A link in progress: its input, ended by a NUL.
#[derive(Default)]
pub struct Link(Mutex<Vec<u8>>);

/// `CU_JIT_INPUT_PTX`.
const INPUT_PTX: c_int = 1;

fn add(link: Handle, kind: c_int, data: &[u8]) -> Outcome {
    let link = current()?.driver.links.get(link)?;
    if kind != INPUT_PTX {
        return Err(Status::NOT_SUPPORTED);
    }
    let text = data.split(|&byte| byte == 0).next().unwrap_or(&[]);
    let text = std::str::from_utf8(text).map_err(|_| Status::INVALID_IMAGE)?;
    Module::parse(text).map_err(|error| {
        eprintln!("cuda-emulator: link refused: {error}");
        Status::INVALID_PTX
    })?;
    let mut input = lock(&link.0);
    if !input.is_empty() {
        // Modules that refer to each other would have to become one.
        return Err(Status::NOT_SUPPORTED);
    }
    input.extend(text.bytes().chain([0]));
    Ok(())
}

fn complete(link: Handle, image: Out<*const c_void>, bytes: Out<usize>) -> Outcome {
    let link = current()?.driver.links.get(link)?;
    let input = lock(&link.0);
    if input.is_empty() {
        return Err(Status::INVALID_VALUE);
    }
    // The input changes no more, and lives until the link is destroyed.
    put(image, input.as_ptr().cast())?;
    put_if_wanted(bytes, input.len());
    Ok(())
}

exports! {
    fn cuLinkCreate_v2(_count: c_uint, _options: *const c_int, _values: *mut *mut c_void, out: Out<Handle>) {
        let current = current()?;
        let out = out.ok_or(Status::INVALID_VALUE)?;
        let handle = new_handle();
        current.driver.links.insert(handle, Link::default());
        out.write(handle);
        Ok(())
    }

    fn cuLinkAddData_v2(
        link: Handle,
        kind: c_int,
        data: *const c_void,
        bytes: usize,
        _name: *const c_char,
        _count: c_uint,
        _options: *const c_int,
        _values: *mut *mut c_void,
    ) {
        if data.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller hands in `bytes` bytes.
        add(link, kind, unsafe { std::slice::from_raw_parts(data.cast(), bytes) })
    }

    fn cuLinkComplete(link: Handle, image: Out<*const c_void>, bytes: Out<usize>) {
        complete(link, image, bytes)
    }

    fn cuLinkDestroy(link: Handle) {
        driver()?.links.remove(link).map(|_| ())
    }
}
