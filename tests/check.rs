//! Every op passes the uniform check, and the check catches ops that are broken on purpose.

use hexcuda::Error;
use hexcuda::check::{check, check_case};
use hexcuda::cuda::Precision;
use hexcuda::device::{Device, DeviceChoice, Kind};
use hexcuda::ops::{Backward, Case, CaseInput, Forward, Memory, OPS, Op, Oracle, Storage, cuda};
use hexcuda::shape::Shape;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn every_op_passes_on_the_cpu() {
    every_op_passes(&Device::Cpu);
}

#[test]
fn every_op_passes_with_products_in_bf16_on_the_cpu() {
    // In plain code where the processor lacks AMX: the same bits.
    every_op_passes(&Device::CpuBf16);
}

#[test]
fn every_op_passes_on_the_software_driver() {
    for precision in [Precision::Tf32, Precision::Bf16, Precision::Fp16, Precision::Fp32] {
        every_op_passes(&DeviceChoice::Emulated.select(precision).unwrap());
    }
}

fn every_op_passes(device: &Device) {
    let failures: Vec<String> = OPS
        .iter()
        .flat_map(|op| check(*op, device).unwrap())
        .filter(|outcome| !outcome.failures.is_empty())
        .map(|outcome| format!("{}/{}: {}", outcome.op, outcome.case, outcome.failures.join("; ")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn names_are_unique_and_cases_exist() {
    let mut names: Vec<&str> = OPS.iter().map(|op| op.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OPS.len());
    for op in OPS {
        let mut cases: Vec<String> = op.cases().into_iter().map(|case| case.name).collect();
        assert!(!cases.is_empty(), "{} has no cases", op.name());
        let all = cases.len();
        cases.sort_unstable();
        cases.dedup();
        assert_eq!(cases.len(), all, "{} has two cases of one name", op.name());
    }
}

/// What is wrong with y = x^2.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ForwardScaled,
    ForwardLeavesOneValue,
    BackwardEmpty,
    BackwardSign,
    BackwardOverwritesAlways,
    BackwardAddsAlways,
    BackwardSwapsTwo,
    ReadsWhatItDidNotDeclare,
    ReadsWorkspaceUnwritten,
    VariesBetweenRuns,
    DependsOnThreads,
    OracleVacuous,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug)]
struct Square(Fault);

impl Op for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn shape(&self, inputs: &[Shape]) -> hexcuda::Result<Shape> {
        Ok(inputs[0])
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        let declared = self.0 != Fault::ReadsWhatItDidNotDeclare;
        Memory {
            backward_workspace: 1,
            backward_inputs: if declared { vec![0] } else { vec![] },
            ..Memory::default()
        }
    }

    fn storage(&self) -> Storage {
        Storage::Alike(1)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let scale = if self.0 == Fault::OracleVacuous { 0.0 } else { 1.0 };
        inputs[0].values.iter().map(|x| scale * x * x).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let scale = match self.0 {
            Fault::ForwardScaled => 1.0001,
            Fault::OracleVacuous => 0.0,
            // A change of one unit in the last place: within the tolerance, but not the same bits.
            Fault::VariesBetweenRuns if CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 1 => 1.0 + f32::EPSILON,
            Fault::DependsOnThreads if rayon::current_num_threads() == 3 => 1.0 + f32::EPSILON,
            _ => 1.0,
        };
        let kept = usize::from(self.0 == Fault::ForwardLeavesOneValue);
        let n = call.output.len() - kept;
        for (y, x) in call.output[..n].iter_mut().zip(call.inputs[0].values) {
            *y = scale * x * x;
        }
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (x, cotangent) = (call.inputs[0].values, call.output_gradient);
        let Some(dx) = &mut call.gradients[0] else { return };
        let n = cotangent.len();
        let get = |i: usize| x.get(i).copied().unwrap_or(0.0);
        match self.0 {
            Fault::BackwardEmpty | Fault::OracleVacuous => dx.store(|_| 0.0),
            Fault::BackwardSign => dx.store(|i| -2.0 * get(i) * cotangent[i]),
            Fault::BackwardSwapsTwo => dx.store(|i| {
                let j = if i < 2 { 1 - i } else { i };
                2.0 * get(j) * cotangent[j]
            }),
            Fault::ReadsWorkspaceUnwritten => {
                let garbage = call.workspace[0];
                dx.store(|i| 2.0 * get(i) * cotangent[i] + garbage);
            }
            Fault::BackwardOverwritesAlways | Fault::BackwardAddsAlways => {
                dx.add = self.0 == Fault::BackwardAddsAlways;
                dx.store(|i| 2.0 * get(i) * cotangent[i]);
            }
            _ => dx.store(|i| 2.0 * get(i) * cotangent[i]),
        }
        assert_eq!(n, dx.values.len());
    }

    fn forward_cuda(&self, _call: cuda::Forward) -> hexcuda::Result<()> {
        Err(Error::new("square", "it has no kernels", "check it on the CPU"))
    }

    fn backward_cuda(&self, _call: cuda::Backward) -> hexcuda::Result<()> {
        Err(Error::new("square", "it has no kernels", "check it on the CPU"))
    }

    fn cases(&self) -> Vec<Case> {
        vec![Case {
            name: "plain".into(),
            op: Box::new(self.clone()),
            inputs: vec![CaseInput::normal(&[2, 3, 5])],
            terms: 1,
        }]
    }
}

fn failures_of(fault: Fault) -> Vec<String> {
    check_case(&Square(fault).cases()[0], &Device::Cpu, false).unwrap().failures
}

#[test]
fn an_op_without_a_fault_passes() {
    assert_eq!(failures_of(Fault::None), Vec::<String>::new());
}

#[test]
fn every_fault_is_caught_for_its_reason() {
    let expected = [
        (Fault::ForwardScaled, "forward is off"),
        (Fault::ForwardLeavesOneValue, "forward is off"),
        (Fault::BackwardEmpty, "gradient 0 is off"),
        (Fault::BackwardSign, "gradient 0 is off"),
        (Fault::BackwardOverwritesAlways, "added to a filled buffer"),
        (Fault::BackwardAddsAlways, "gradient 0 is off"),
        (Fault::BackwardSwapsTwo, "gradient 0 is off"),
        (Fault::ReadsWhatItDidNotDeclare, "gradient 0 is off"),
        (Fault::ReadsWorkspaceUnwritten, "gradient 0 is off"),
        (Fault::VariesBetweenRuns, "two runs differ"),
        (Fault::DependsOnThreads, "depend on the threads"),
        (Fault::OracleVacuous, "vacuous"),
    ];
    for (fault, reason) in expected {
        let failures = failures_of(fault);
        assert!(failures.iter().any(|failure| failure.contains(reason)), "{fault:?}: {failures:?}");
    }
}
