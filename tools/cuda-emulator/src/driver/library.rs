//! Libraries: modules that need no context to be named (CUDA 12). A library is loaded into the context
//! that is current; its kernels serve wherever a function does.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::abi::{DevicePointer, Handle, Out, put};
use super::exports;
use super::module::{
    function_attribute, function_of, global, load, load_file, set_function_attribute, unload,
};
use super::state::{device, driver};
use super::status::Status;

exports! {
    fn cuLibraryLoadData(
        out: Out<Handle>,
        image: *const c_void,
        options: *const c_int,
        values: *mut *mut c_void,
        count: c_uint,
        _library_options: *const c_int,
        _library_values: *mut *mut c_void,
        _library_count: c_uint,
    ) {
        load(out, image, count, options, values)
    }

    fn cuLibraryLoadFromFile(
        out: Out<Handle>,
        path: *const c_char,
        _options: *const c_int,
        _values: *mut *mut c_void,
        _count: c_uint,
        _library_options: *const c_int,
        _library_values: *mut *mut c_void,
        _library_count: c_uint,
    ) {
        load_file(out, path)
    }

    fn cuLibraryUnload(library: Handle) {
        unload(library)
    }

    fn cuLibraryGetModule(out: Out<Handle>, library: Handle) {
        driver()?.modules.get(library)?;
        put(out, library)
    }

    fn cuLibraryGetKernel(out: Out<Handle>, library: Handle, name: *const c_char) {
        let out = out.ok_or(Status::INVALID_VALUE)?;
        out.write(function_of(library, name)?);
        Ok(())
    }

    fn cuLibraryGetGlobal(
        address: Out<DevicePointer>,
        bytes: Out<usize>,
        library: Handle,
        name: *const c_char,
    ) {
        global(address, bytes, library, name)
    }

    fn cuKernelGetFunction(out: Out<Handle>, kernel: Handle) {
        driver()?.functions.get(kernel)?;
        put(out, kernel)
    }

    fn cuKernelGetAttribute(value: Out<c_int>, number: c_int, kernel: Handle, ordinal: c_int) {
        device(ordinal)?;
        put(value, function_attribute(kernel, number)?)
    }

    fn cuKernelSetAttribute(number: c_int, value: c_int, kernel: Handle, ordinal: c_int) {
        device(ordinal)?;
        set_function_attribute(kernel, number, value)
    }
}
