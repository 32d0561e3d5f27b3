//! Graphs built node by node, looked into and changed.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use cudarc::driver::sys::{self, CUfunction, CUgraph, CUgraphNode, CUresult::*};

use crate::support::*;

/// Adds a node that runs `set`, after `dependencies`.
fn add_set(
    graph: CUgraph,
    after: &[CUgraphNode],
    function: CUfunction,
    mut address: u64,
    mut value: u32,
) -> CUgraphNode {
    let mut arguments: [*mut c_void; 2] = [(&raw mut address).cast(), (&raw mut value).cast()];
    let params = kernel_params(function, &mut arguments);
    let mut node = null_mut();
    ok(unsafe { sys::cuGraphAddKernelNode_v2(&mut node, graph, after.as_ptr(), after.len(), &params) });
    node
}

fn kernel_params(function: CUfunction, arguments: &mut [*mut c_void; 2]) -> sys::CUDA_KERNEL_NODE_PARAMS {
    let mut params: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    params.func = function;
    (params.gridDimX, params.gridDimY, params.gridDimZ) = (1, 1, 1);
    (params.blockDimX, params.blockDimY, params.blockDimZ) = (1, 1, 1);
    params.kernelParams = arguments.as_mut_ptr();
    params
}

fn graph() -> CUgraph {
    let mut graph = null_mut();
    ok(unsafe { sys::cuGraphCreate(&mut graph, 0) });
    graph
}

emulated! {
    fn nodes_run_after_what_they_depend_on[] {
        start();
        let (word, set_word, graph) = (upload(&[0]), kernel("set"), graph());
        let last = add_set(graph, &[], set_word, word, 3);
        let first = add_set(graph, &[], set_word, word, 1);
        let mut executable = null_mut();
        unsafe {
            // The node that was made first is made to run last.
            ok(sys::cuGraphAddDependencies(graph, &first, &last, 1));
            assert_eq!(sys::cuGraphAddDependencies(graph, &first, &first, 1), CUDA_ERROR_INVALID_VALUE);
            let (mut roots, mut count) = ([null_mut(); 4], 4);
            ok(sys::cuGraphGetRootNodes(graph, roots.as_mut_ptr(), &mut count));
            assert_eq!((roots[0], count), (first, 1));
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(word, 1), [3]);
            // A cycle cannot be instantiated.
            ok(sys::cuGraphAddDependencies(graph, &last, &first, 1));
            let mut bad = null_mut();
            assert_eq!(sys::cuGraphInstantiateWithFlags(&mut bad, graph, 0), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuGraphDestroy(graph));
            assert_eq!(sys::cuGraphDestroyNode(first), CUDA_ERROR_INVALID_HANDLE);
            // The executable does not need its graph.
            ok(sys::cuGraphLaunch(executable, null_mut()));
            ok(sys::cuGraphExecDestroy(executable));
            ok(sys::cuMemFree_v2(word));
        }
    }
}

emulated! {
    fn fills_copies_and_children_are_nodes[] {
        start();
        let (words, graph, child) = (upload(&[0; 4]), graph(), graph());
        let (mut context, mut fill_node, mut copy_node, mut child_node, mut executable) =
            (null_mut(), null_mut(), null_mut(), null_mut(), null_mut());
        let mut fill: sys::CUDA_MEMSET_NODE_PARAMS = unsafe { std::mem::zeroed() };
        (fill.dst, fill.value, fill.elementSize, fill.width, fill.height) = (words, 5, 4, 2, 1);
        let mut copy = box_3d();
        (copy.srcDevice, copy.dstDevice) = (words, words + 8);
        (copy.WidthInBytes, copy.Height, copy.Depth) = (8, 1, 1);
        unsafe {
            ok(sys::cuCtxGetCurrent(&mut context));
            ok(sys::cuGraphAddMemcpyNode(&mut copy_node, child, null(), 0, &copy, context));
            ok(sys::cuGraphAddMemsetNode(&mut fill_node, graph, null(), 0, &fill, context));
            ok(sys::cuGraphAddChildGraphNode(&mut child_node, graph, &fill_node, 1, child));
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(words, 4), [5; 4]);
            fill.value = 6;
            ok(sys::cuGraphExecMemsetNodeSetParams(executable, fill_node, &fill, context));
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(words, 4), [6; 4]);
            let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
            ok(sys::cuGraphNodeGetType(child_node, &mut kind));
            assert_eq!(kind, sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_GRAPH);
            fill.height = 1 << 40;
            assert_eq!(sys::cuGraphAddMemsetNode(&mut fill_node, graph, null(), 0, &fill, context), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn kernel_nodes_show_and_take_arguments[] {
        start();
        let (word, set_word, graph) = (upload(&[0]), kernel("set"), graph());
        let node = add_set(graph, &[], set_word, word, 1);
        let (mut executable, mut value, mut address) = (null_mut(), 8u32, word);
        let mut arguments: [*mut c_void; 2] = [(&raw mut address).cast(), (&raw mut value).cast()];
        unsafe {
            let mut shown: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
            ok(sys::cuGraphKernelNodeGetParams_v2(node, &mut shown));
            assert_eq!((shown.func, **shown.kernelParams.add(1).cast::<*mut u32>()), (set_word, 1));
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuGraphExecKernelNodeSetParams_v2(executable, node, &kernel_params(set_word, &mut arguments)));
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(word, 1), [8]);
            arguments[1].cast::<u32>().write(9);
            ok(sys::cuGraphKernelNodeSetParams_v2(node, &kernel_params(set_word, &mut arguments)));
            // The executable is as it was until it is updated.
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(word, 1), [8]);
            let mut info: sys::CUgraphExecUpdateResultInfo = std::mem::zeroed();
            ok(sys::cuGraphExecUpdate_v2(executable, graph, &mut info));
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(word, 1), [9]);
            add_set(graph, &[node], set_word, word, 1);
            assert_eq!(sys::cuGraphExecUpdate_v2(executable, graph, &mut info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
            assert_eq!(info.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
            ok(sys::cuMemFree_v2(word));
        }
    }
}

emulated! {
    fn clones_and_flags_are_checked[] {
        start();
        let (word, set_word, graph) = (upload(&[0]), kernel("set"), graph());
        add_set(graph, &[], set_word, word, 4);
        let (mut copy, mut executable) = (null_mut(), null_mut());
        unsafe {
            ok(sys::cuGraphClone(&mut copy, graph));
            ok(sys::cuGraphDestroy(graph));
            for (flags, expected) in [(16, CUDA_ERROR_INVALID_VALUE), (5, CUDA_ERROR_INVALID_VALUE), (4, CUDA_ERROR_NOT_SUPPORTED)] {
                assert_eq!(sys::cuGraphInstantiateWithFlags(&mut executable, copy, flags), expected);
            }
            let mut params: sys::CUDA_GRAPH_INSTANTIATE_PARAMS = std::mem::zeroed();
            ok(sys::cuGraphInstantiateWithParams(&mut executable, copy, &mut params));
            ok(sys::cuGraphUpload(executable, null_mut()));
            assert_eq!(download(word, 1), [0]);
            ok(sys::cuGraphLaunch(executable, null_mut()));
            assert_eq!(download(word, 1), [4]);
            ok(sys::cuMemFree_v2(word));
        }
    }
}
