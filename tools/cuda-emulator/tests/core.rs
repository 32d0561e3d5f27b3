//! The device's memory, launches and counters, against what can be counted by hand.

use cuda_emulator::error::FaultKind;
use cuda_emulator::execute::{Launch, LoadedModule, Settings, launch_into};
use cuda_emulator::memory::{DeviceMemory, MemoryError};
use cuda_emulator::observe::{Class, Counters, table};
use cuda_emulator::ptx::Module;

const MEGABYTE: u64 = 1 << 20;

#[test]
fn memory_keeps_allocations_apart_and_counts_them() {
    let memory = DeviceMemory::new(MEGABYTE);
    let (a, b) = (memory.allocate(100).unwrap(), memory.allocate(1000).unwrap());
    assert!(a % 512 == 0 && b % 512 == 0 && b - a >= 100 + 512, "guard zones and alignment: {a:#x} {b:#x}");
    assert_eq!(memory.in_use(), 512 + 1024);
    assert_eq!(memory.allocation(a + 99), Some((a, 100)));
    assert_eq!(memory.allocation(a + 100), None);
    assert_eq!(memory.write(a + 98, &[1, 2, 3]), Err(MemoryError::OutOfBounds(a + 98, 3, a, 100)));
    memory.fill(b, &[1, 2], 500).unwrap();
    memory.copy(b + 1, b, 11).unwrap();
    let mut bytes = [0; 14];
    memory.read(b, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1, 2], "an overlapping copy moves the old bytes");
    memory.free(a).unwrap();
    assert_eq!(memory.free(a), Err(MemoryError::Freed(a)));
    assert_eq!(memory.read(a, &mut bytes), Err(MemoryError::Freed(a)));
    assert_eq!(memory.free(b + 8), Err(MemoryError::NotAllocated(b + 8)));
    assert_eq!(memory.allocations().iter().map(|left| left.base).collect::<Vec<_>>(), [b]);
}

#[test]
fn memory_ends_at_its_capacity_and_does_not_reuse_addresses_soon() {
    let memory = DeviceMemory::new(MEGABYTE);
    assert_eq!(memory.allocate(MEGABYTE + 1), None);
    let first = memory.allocate(MEGABYTE).unwrap();
    assert_eq!(memory.allocate(1), None);
    memory.free(first).unwrap();
    for _ in 0..100 {
        let next = memory.allocate(MEGABYTE).unwrap();
        assert_ne!(next, first);
        memory.free(next).unwrap();
    }
}

/// Every thread copies the word that its index times `stride` names, through shared memory.
const COPY: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry copy(.param .u64 in, .param .u64 out, .param .u32 stride, .param .u32 bank)
{
    .reg .b32 %r<9>;
    .reg .b64 %d<9>;
    .shared .align 16 .b8 tile[8192];
    ld.param.u64 %d1, [in];
    ld.param.u64 %d2, [out];
    ld.param.u32 %r1, [stride];
    ld.param.u32 %r2, [bank];
    mov.u32 %r3, %tid.x;
    mov.u32 %r4, %ctaid.x;
    mov.u32 %r5, %ntid.x;
    mad.lo.u32 %r4, %r4, %r5, %r3;
    mul.lo.u32 %r5, %r4, %r1;
    mad.wide.u32 %d3, %r5, 4, %d1;
    ld.global.u32 %r6, [%d3];
    mul.lo.u32 %r7, %r3, %r2;
    shl.b32 %r7, %r7, 2;
    st.shared.u32 [%r7], %r6;
    ld.shared.u32 %r8, [%r7];
    mad.wide.u32 %d4, %r4, 4, %d2;
    st.global.u32 [%d4], %r8;
    ret;
}
";

struct Device {
    memory: DeviceMemory,
    module: LoadedModule,
}

impl Device {
    fn new(text: &str) -> Self {
        let memory = DeviceMemory::new(64 * MEGABYTE);
        let module = LoadedModule::load(&Module::parse(text).unwrap(), &memory).unwrap();
        Self { memory, module }
    }

    fn copy(
        &self,
        blocks: u32,
        stride: u32,
        bank: u32,
        threads: usize,
    ) -> Result<(Counters, Vec<u8>), cuda_emulator::error::Fault> {
        let words = u64::from(blocks) * 32;
        let input = self.memory.allocate(4 * words * u64::from(stride)).unwrap();
        let data: Vec<u8> = (0..words as u32 * stride).flat_map(u32::to_le_bytes).collect();
        self.memory.write(input, &data).unwrap();
        let output = self.memory.allocate(4 * words).unwrap();
        let mut parameters = [input.to_le_bytes(), output.to_le_bytes()].concat();
        parameters.extend([stride.to_le_bytes(), bank.to_le_bytes()].concat());
        let launch = Launch {
            kernel: self.module.kernel("copy").unwrap(),
            grid: [blocks, 1, 1],
            block: [32, 1, 1],
            shared_bytes: 0,
            parameters: &parameters,
        };
        let settings = Settings { threads, ..Settings::default() };
        let counters = launch_into(&self.module, &launch, &self.memory, &settings, &mut Vec::new())?;
        let mut bytes = vec![0; 4 * words as usize];
        self.memory.read(output, &mut bytes).unwrap();
        Ok((counters, bytes))
    }
}

#[test]
fn counters_are_those_counted_by_hand() {
    let device = Device::new(COPY);
    // One warp reads 32 words beside each other: 4 sectors, as few as there can be.
    let (counters, bytes) = device.copy(1, 1, 1, 1).unwrap();
    assert_eq!(bytes[4..8], 1u32.to_le_bytes());
    assert_eq!((counters.load_sectors, counters.load_sectors_ideal), (4, 4));
    assert_eq!((counters.store_sectors, counters.store_sectors_ideal), (4, 4));
    assert_eq!((counters.shared_wavefronts, counters.shared_conflicts), (2, 0));
    // Eighteen instructions: four touch parameters, two shared and two global memory, one is the return.
    assert_eq!((counters.warp_instructions, counters.total()), (18, 18 * 32));
    let of = |class: Class| counters.lane_instructions[class as usize] / 32;
    assert_eq!([Class::Local, Class::Shared, Class::Global, Class::Control].map(of), [4, 2, 2, 1]);
    // Every eighth word: a sector for each lane; every second bank: two words in each of 16 banks.
    let (counters, _) = device.copy(1, 8, 2, 1).unwrap();
    assert_eq!((counters.load_sectors, counters.load_sectors_ideal), (32, 4));
    assert_eq!((counters.shared_wavefronts, counters.shared_conflicts), (4, 2));
    // All lanes in one bank: 32 wavefronts for each of the two accesses.
    let (counters, _) = device.copy(1, 1, 32, 1).unwrap();
    assert_eq!((counters.shared_wavefronts, counters.shared_conflicts), (64, 62));
    assert!(table([("copy", 1, &counters)]).contains("copy"));
}

#[test]
fn results_and_counters_do_not_depend_on_the_number_of_host_threads() {
    let device = Device::new(COPY);
    let one = device.copy(100, 3, 1, 1).unwrap();
    assert_eq!(one.0.blocks, 100);
    for threads in [2, 7] {
        assert_eq!(device.copy(100, 3, 1, threads).unwrap(), one);
    }
}

#[test]
fn the_first_fault_in_block_order_is_reported() {
    let device = Device::new(COPY);
    // The address in shared memory leaves its 8192 bytes from lane 21 on, in every block.
    let fault = device.copy(50, 1, 100, 4).unwrap_err();
    assert_eq!((fault.kind, fault.block, fault.thread), (FaultKind::OutOfBounds, [0, 0, 0], [21, 0, 0]));
    assert_eq!((fault.ptx_line, fault.kernel.as_str()), (23, "copy"));
    assert!(fault.to_string().contains("block (0,0,0), thread (21,0,0), PTX line 23"), "{fault}");
}

#[test]
fn freed_memory_is_named_as_such() {
    let device = Device::new(COPY);
    let [input, output] = [0; 2].map(|_| device.memory.allocate(128).unwrap());
    device.memory.fill(input, &[0], 128).unwrap();
    device.memory.free(input).unwrap();
    let parameters = [input.to_le_bytes(), output.to_le_bytes(), [1, 0, 0, 0, 1, 0, 0, 0]].concat();
    let kernel = device.module.kernel("copy").unwrap();
    let launch = Launch { kernel, grid: [1; 3], block: [32, 1, 1], shared_bytes: 0, parameters: &parameters };
    let fault = launch_into(&device.module, &launch, &device.memory, &Settings::default(), &mut Vec::new())
        .unwrap_err();
    assert_eq!((fault.kind, fault.ptx_line), (FaultKind::FreedMemory, 20));
}

#[test]
fn launches_that_the_device_cannot_run_are_refused() {
    let device = Device::new(COPY);
    let kernel = device.module.kernel("copy").unwrap();
    assert_eq!((kernel.parameter_bytes, kernel.shared_static, kernel.max_threads), (24, 8192, 1024));
    let parameters = [0; 24];
    let good = Launch { kernel, grid: [1; 3], block: [32, 1, 1], shared_bytes: 0, parameters: &parameters };
    let refused = |launch: Launch<'_>| {
        let result =
            launch_into(&device.module, &launch, &device.memory, &Settings::default(), &mut Vec::new());
        assert_eq!(result.unwrap_err().kind, FaultKind::InvalidLaunch);
    };
    refused(Launch { grid: [0, 1, 1], ..good });
    refused(Launch { block: [1025, 1, 1], ..good });
    refused(Launch { shared_bytes: 100 << 10, ..good });
    refused(Launch { parameters: &parameters[..20], ..good });
}

#[test]
fn a_text_that_is_not_ptx_is_refused_with_its_line() {
    for (text, line) in [
        ("", 1),
        ("hello", 1),
        (".version 8.0\n.target sm_80\n.entry k() {\n  add.s32 %r1, %r2\n}", 5),
        (".version 8.0\n.entry k() {\n  .reg .b33 %r;\n}", 3),
        (".version 8.0\n.entry k() {\n  @%p bra end;\n}", 3),
        (".version 8.0\n.entry k() {\n", 2),
        (".version 8.0\n/* no end", 2),
        (".version 8.0\n.address_size 32\n", 2),
    ] {
        let error = Module::parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

#[test]
fn broken_texts_are_refused_without_harm() {
    let programs = [COPY, include_str!("programs/atomics.ptx"), include_str!("programs/wmma.ptx")];
    for text in programs {
        let memory = DeviceMemory::new(64 * MEGABYTE);
        let load = |text: &str| {
            if let Ok(module) = Module::parse(text)
                && let Ok(loaded) = LoadedModule::load(&module, &memory)
            {
                loaded.unload(&memory);
            }
        };
        let words: Vec<&str> = text.split_inclusive([' ', '\t', '\n']).collect();
        for (n, _) in words.iter().enumerate().filter(|&(n, _)| n % 3 == 0) {
            let without = [&words[..n], &words[n + 1..]].concat().concat();
            load(&without);
            load(&words[..n].concat());
        }
        assert_eq!(memory.in_use(), 0, "what a refused module had taken is given back");
    }
    let nested = format!(".version 8.0\n.entry k() {{\n mov.b64 {}", "{".repeat(100_000));
    assert!(Module::parse(&nested).is_err());
    let large = ".version 8.0\n.entry k() {\n .shared .b8 a[4000000000];\n ret;\n}";
    assert!(Module::parse(large).is_err());
}
