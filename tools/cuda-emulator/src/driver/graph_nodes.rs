//! Graphs built node by node, and looked into.

use std::ffi::c_int;
use std::sync::Arc;

use super::abi::{
    Handle, HostNodeParams, In, KernelNodeParams, KernelNodeParamsV2, Memcpy3D, MemsetNodeParams, Out, put,
};
use super::copy::{Fill, copy_of_3d};
use super::exports;
use super::graph::{Graph, Node};
use super::launch;
use super::operation::{HostCall, KernelLaunch, Operation};
use super::state::{Current, current, driver, lock};
use super::status::{Outcome, Status};

/// Reads an array of handles; null stands for an empty one.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for null with a count.
pub fn handles(start: *const Handle, count: usize) -> Outcome<Vec<Handle>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if start.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in an array of `count` handles.
    Ok(unsafe { std::slice::from_raw_parts(start, count) }.to_vec())
}

/// Gives a list as the API does: its length alone without a place, or as much as fits and zeros behind.
fn give(list: &[Handle], start: *mut Handle, count: Option<&mut usize>) -> Outcome {
    let count = count.ok_or(Status::INVALID_VALUE)?;
    if !start.is_null() {
        for index in 0..*count {
            // SAFETY: the caller says that the array holds `*count` handles.
            unsafe { *start.add(index) = list.get(index).copied().unwrap_or(0) };
        }
        *count = (*count).min(list.len());
    } else {
        *count = list.len();
    }
    Ok(())
}

fn add(
    out: Out<Handle>,
    graph: Handle,
    dependencies: *const Handle,
    count: usize,
    make: impl FnOnce() -> Outcome<Operation>,
) -> Outcome {
    let driver = driver()?;
    let graph = driver.graphs.get(graph)?;
    let dependencies = handles(dependencies, count)?;
    let out = out.ok_or(Status::INVALID_VALUE)?;
    if !graph.holds(&dependencies) {
        return Err(Status::INVALID_VALUE);
    }
    out.write(graph.add(driver, make()?, dependencies));
    Ok(())
}

fn kernel(params: In<KernelNodeParams>) -> Outcome<Operation> {
    let it = params.ok_or(Status::INVALID_VALUE)?;
    let function = driver()?.functions.get(it.function)?;
    Ok(Operation::Kernel(launch::prepare(
        function,
        it.grid,
        it.block,
        it.shared_bytes,
        it.parameters,
        it.extra,
    )?))
}

fn memset(params: In<MemsetNodeParams>, current: &Current) -> Outcome<Operation> {
    let it = params.ok_or(Status::INVALID_VALUE)?;
    let fill = Fill {
        device: current.device().clone(),
        address: it.target,
        pitch: it.pitch,
        value: it.value,
        element: it.element_size as usize,
        width: it.width,
        height: it.height,
    };
    fill.validate()?;
    Ok(Operation::Fill(fill))
}

fn memcpy(params: In<Memcpy3D>, current: &Current) -> Outcome<Operation> {
    let copy = copy_of_3d(current, params.ok_or(Status::INVALID_VALUE)?)?;
    copy.validate()?;
    Ok(Operation::Copy(copy))
}

fn host(params: In<HostNodeParams>) -> Outcome<Operation> {
    let it = params.ok_or(Status::INVALID_VALUE)?;
    let function = it.function.ok_or(Status::INVALID_VALUE)?;
    Ok(Operation::Host(HostCall { function, data: it.data as usize }))
}

fn child(graph: Handle) -> Outcome<Operation> {
    let steps = driver()?.graphs.get(graph)?.steps()?;
    Ok(Operation::Child(steps.into_iter().map(|step| step.operation).collect()))
}

/// A kernel node's launch, with pointers to its parameters that stay good until the next call.
fn kernel_params(node: &Node) -> Outcome<KernelNodeParams> {
    let launch = kernel_of(node)?;
    let mut shown = lock(&node.shown);
    shown.0 = launch.parameters.clone();
    let start = shown.0.as_ptr() as usize;
    let offsets = launch.function.kernel().parameters.iter();
    shown.1 = offsets.map(|parameter| start + parameter.offset as usize).collect();
    Ok(KernelNodeParams {
        function: launch.function.handle,
        grid: launch.grid,
        block: launch.block,
        shared_bytes: launch.shared_bytes,
        parameters: shown.1.as_mut_ptr().cast(),
        extra: std::ptr::null_mut(),
    })
}

fn kernel_of(node: &Node) -> Outcome<KernelLaunch> {
    match &*lock(&node.operation) {
        Operation::Kernel(launch) => Ok(launch.clone()),
        _ => Err(Status::INVALID_VALUE),
    }
}

fn set_kernel(node: Handle, params: In<KernelNodeParams>) -> Outcome {
    let node = find(node)?;
    kernel_of(&node)?;
    let operation = kernel(params)?;
    *lock(&node.operation) = operation;
    Ok(())
}

fn set_executable_kernel(executable: Handle, node: Handle, params: In<KernelNodeParams>) -> Outcome {
    set_step(executable, node, kernel(params)?)
}

fn set_step(executable: Handle, node: Handle, operation: Operation) -> Outcome {
    let executable = driver()?.executables.get(executable)?;
    let mut steps = lock(&executable.steps);
    let step = steps.iter_mut().find(|step| step.node == node).ok_or(Status::INVALID_VALUE)?;
    if step.operation.node_type() != operation.node_type() {
        return Err(Status::INVALID_VALUE);
    }
    step.operation = operation;
    Ok(())
}

fn find(node: Handle) -> Outcome<Arc<Node>> {
    driver()?.nodes.get(node)
}

fn nodes_of(graph: Handle, keep: impl Fn(&Node) -> bool) -> Outcome<Vec<Handle>> {
    let graph = driver()?.graphs.get(graph)?;
    let nodes = lock(&graph.nodes);
    Ok(nodes.iter().filter(|node| keep(node)).map(|node| node.handle).collect())
}

/// Every edge as two lists: where it starts and where it ends.
fn edges(graph: &Graph) -> (Vec<Handle>, Vec<Handle>) {
    let nodes = lock(&graph.nodes);
    nodes
        .iter()
        .flat_map(|node| lock(&node.dependencies).iter().map(|&from| (from, node.handle)).collect::<Vec<_>>())
        .unzip()
}

fn give_edges(graph: Handle, from: *mut Handle, to: *mut Handle, count: Option<&mut usize>) -> Outcome {
    let (starts, ends) = edges(&*driver()?.graphs.get(graph)?);
    let count = count.ok_or(Status::INVALID_VALUE)?;
    let mut room = *count;
    give(&starts, from, Some(&mut room))?;
    give(&ends, to, Some(count))
}

/// Adds or removes edges of a graph.
fn change_edges(
    graph: Handle,
    from: *const Handle,
    to: *const Handle,
    count: usize,
    change: fn(&mut Vec<Handle>, Handle) -> bool,
) -> Outcome {
    let graph = driver()?.graphs.get(graph)?;
    let (from, to) = (handles(from, count)?, handles(to, count)?);
    if !graph.holds(&from) || !graph.holds(&to) {
        return Err(Status::INVALID_VALUE);
    }
    for (from, to) in from.into_iter().zip(to) {
        if from == to || !change(&mut lock(&find(to)?.dependencies), from) {
            return Err(Status::INVALID_VALUE);
        }
    }
    Ok(())
}

fn destroy_node(handle: Handle) -> Outcome {
    let driver = driver()?;
    let node = driver.nodes.remove(handle)?;
    let graph = driver.graphs.get(node.graph)?;
    let mut nodes = lock(&graph.nodes);
    nodes.retain(|other| other.handle != handle);
    for other in nodes.iter() {
        lock(&other.dependencies).retain(|&dependency| dependency != handle);
    }
    Ok(())
}

exports! {
    fn cuGraphAddKernelNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        params: In<KernelNodeParams>,
    ) {
        add(out, graph, dependencies, count, || kernel(params))
    }

    fn cuGraphAddKernelNode_v2(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        params: In<KernelNodeParamsV2>,
    ) {
        add(out, graph, dependencies, count, || kernel(params.map(|params| &params.base)))
    }

    fn cuGraphAddMemsetNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        params: In<MemsetNodeParams>,
        _context: Handle,
    ) {
        let current = current()?;
        add(out, graph, dependencies, count, || memset(params, &current))
    }

    fn cuGraphAddMemcpyNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        params: In<Memcpy3D>,
        _context: Handle,
    ) {
        let current = current()?;
        add(out, graph, dependencies, count, || memcpy(params, &current))
    }

    fn cuGraphAddHostNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        params: In<HostNodeParams>,
    ) {
        add(out, graph, dependencies, count, || host(params))
    }

    fn cuGraphAddEmptyNode(out: Out<Handle>, graph: Handle, dependencies: *const Handle, count: usize) {
        add(out, graph, dependencies, count, || Ok(Operation::Empty))
    }

    fn cuGraphAddChildGraphNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        of: Handle,
    ) {
        add(out, graph, dependencies, count, || child(of))
    }

    fn cuGraphAddEventRecordNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        event: Handle,
    ) {
        add(out, graph, dependencies, count, || Ok(Operation::Record(driver()?.events.get(event)?)))
    }

    fn cuGraphAddEventWaitNode(
        out: Out<Handle>,
        graph: Handle,
        dependencies: *const Handle,
        count: usize,
        event: Handle,
    ) {
        add(out, graph, dependencies, count, || driver()?.events.get(event).map(|_| Operation::Wait))
    }

    fn cuGraphKernelNodeGetParams(node: Handle, params: Out<KernelNodeParams>) {
        put(params, kernel_params(&*find(node)?)?)
    }

    fn cuGraphKernelNodeGetParams_v2(node: Handle, params: Out<KernelNodeParamsV2>) {
        let node = find(node)?;
        let context = kernel_of(&node)?.function.context;
        put(params, KernelNodeParamsV2 { base: kernel_params(&node)?, kernel: 0, context })
    }

    fn cuGraphKernelNodeSetParams(node: Handle, params: In<KernelNodeParams>) {
        set_kernel(node, params)
    }

    fn cuGraphKernelNodeSetParams_v2(node: Handle, params: In<KernelNodeParamsV2>) {
        set_kernel(node, params.map(|params| &params.base))
    }

    fn cuGraphExecKernelNodeSetParams(executable: Handle, node: Handle, params: In<KernelNodeParams>) {
        set_executable_kernel(executable, node, params)
    }

    fn cuGraphExecKernelNodeSetParams_v2(executable: Handle, node: Handle, params: In<KernelNodeParamsV2>) {
        set_executable_kernel(executable, node, params.map(|params| &params.base))
    }

    fn cuGraphExecMemsetNodeSetParams(
        executable: Handle,
        node: Handle,
        params: In<MemsetNodeParams>,
        _context: Handle,
    ) {
        set_step(executable, node, memset(params, &current()?)?)
    }

    fn cuGraphExecMemcpyNodeSetParams(
        executable: Handle,
        node: Handle,
        params: In<Memcpy3D>,
        _context: Handle,
    ) {
        set_step(executable, node, memcpy(params, &current()?)?)
    }

    fn cuGraphExecHostNodeSetParams(executable: Handle, node: Handle, params: In<HostNodeParams>) {
        set_step(executable, node, host(params)?)
    }

    fn cuGraphNodeGetType(node: Handle, kind: Out<c_int>) {
        put(kind, lock(&find(node)?.operation).node_type())
    }

    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: Option<&mut usize>) {
        give(&nodes_of(graph, |_| true)?, nodes, count)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: *mut Handle, count: Option<&mut usize>) {
        give(&nodes_of(graph, |node| lock(&node.dependencies).is_empty())?, nodes, count)
    }

    fn cuGraphGetEdges(graph: Handle, from: *mut Handle, to: *mut Handle, count: Option<&mut usize>) {
        give_edges(graph, from, to, count)
    }

    fn cuGraphNodeGetDependencies(node: Handle, nodes: *mut Handle, count: Option<&mut usize>) {
        let dependencies = lock(&find(node)?.dependencies).clone();
        give(&dependencies, nodes, count)
    }

    fn cuGraphNodeGetDependentNodes(node: Handle, nodes: *mut Handle, count: Option<&mut usize>) {
        let graph = find(node)?.graph;
        give(&nodes_of(graph, |other| lock(&other.dependencies).contains(&node))?, nodes, count)
    }

    fn cuGraphAddDependencies(graph: Handle, from: *const Handle, to: *const Handle, count: usize) {
        change_edges(graph, from, to, count, |list, handle| {
            let new = !list.contains(&handle);
            list.push(handle);
            new
        })
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: *const Handle, to: *const Handle, count: usize) {
        change_edges(graph, from, to, count, |list, handle| {
            let before = list.len();
            list.retain(|&other| other != handle);
            list.len() < before
        })
    }

    fn cuGraphDestroyNode(node: Handle) {
        destroy_node(node)
    }
}
