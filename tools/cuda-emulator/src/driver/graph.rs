//! Graphs: nodes with dependencies, made executable and launched.

use std::collections::{HashMap, HashSet};
use std::ffi::{c_char, c_int, c_uint};
use std::sync::{Arc, Mutex};

use super::abi::{GraphInstantiateParams, GraphUpdateInfo, Handle, Out, put, put_if_wanted};
use super::exports;
use super::memory::free_owned;
use super::operation::Operation;
use super::state::{Device, Driver, current, driver, lock, new_handle};
use super::status::{Outcome, Status};
use super::stream::{resolve, submit};

/// A node of a graph.
pub struct Node {
    pub handle: Handle,
    pub graph: Handle,
    pub operation: Mutex<Operation>,
    pub dependencies: Mutex<Vec<Handle>>,
    /// The pointers that `cuGraphKernelNodeGetParams` last handed out point into this copy.
    pub shown: Mutex<(Arc<[u8]>, Vec<usize>)>,
}

/// Memory allocated in a capture: it lives as long as the graph or an executable made of it.
#[derive(Default)]
pub struct GraphMemory(Mutex<Vec<(Arc<Device>, u64)>>);

impl Drop for GraphMemory {
    fn drop(&mut self) {
        for (device, address) in lock(&self.0).drain(..) {
            free_owned(&device, address);
        }
    }
}

/// A graph.
pub struct Graph {
    pub handle: Handle,
    pub nodes: Mutex<Vec<Arc<Node>>>,
    memory: Arc<GraphMemory>,
}

/// A node made ready to run.
#[derive(Clone)]
pub struct Step {
    pub node: Handle,
    pub operation: Operation,
    /// Places of its dependencies in the order of the steps.
    dependencies: Vec<usize>,
}

/// An instantiated graph: its steps in an order that keeps the dependencies.
pub struct Executable {
    pub steps: Mutex<Vec<Step>>,
    /// Keeps the memory alive that the steps refer to.
    _memory: Arc<GraphMemory>,
}

impl Graph {
    /// An empty graph, entered in the driver's table.
    pub fn create(driver: &Driver) -> Arc<Self> {
        let handle = new_handle();
        driver.graphs.insert(handle, Self { handle, nodes: Mutex::default(), memory: Arc::default() })
    }

    /// Takes a graph and its nodes out of the driver's tables.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub fn destroy(driver: &Driver, handle: Handle) -> Outcome {
        driver.graphs.remove(handle)?;
        driver.nodes.retain(|node| node.graph != handle);
        Ok(())
    }

    /// Adds a node and returns its handle.
    pub fn add(&self, driver: &Driver, operation: Operation, dependencies: Vec<Handle>) -> Handle {
        let handle = new_handle();
        let node = Node {
            handle,
            graph: self.handle,
            operation: Mutex::new(operation),
            dependencies: Mutex::new(dependencies),
            shown: Mutex::new((Arc::new([]), Vec::new())),
        };
        lock(&self.nodes).push(driver.nodes.insert(handle, node));
        handle
    }

    /// Makes the graph the owner of an allocation.
    pub fn own(&self, device: Arc<Device>, address: u64) {
        lock(&self.memory.0).push((device, address));
    }

    /// Whether all these nodes are the graph's.
    pub fn holds(&self, handles: &[Handle]) -> bool {
        let nodes = lock(&self.nodes);
        handles.iter().all(|handle| nodes.iter().any(|node| node.handle == *handle))
    }

    /// These nodes and all that they depend on.
    pub fn ancestors(&self, from: &[Handle]) -> HashSet<Handle> {
        let nodes = lock(&self.nodes);
        let by_handle: HashMap<_, _> = nodes.iter().map(|node| (node.handle, node)).collect();
        let (mut reached, mut todo) = (HashSet::new(), from.to_vec());
        while let Some(handle) = todo.pop() {
            if reached.insert(handle) {
                todo.extend(by_handle.get(&handle).iter().flat_map(|node| lock(&node.dependencies).clone()));
            }
        }
        reached
    }

    /// The nodes in the order of their making, each after its dependencies.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for a cycle.
    pub fn steps(&self) -> Outcome<Vec<Step>> {
        let mut waiting = lock(&self.nodes).clone();
        let mut places = HashMap::new();
        let mut steps = Vec::new();
        while !waiting.is_empty() {
            let before = steps.len();
            waiting.retain(|node| {
                let dependencies = lock(&node.dependencies);
                let places_of: Option<Vec<usize>> =
                    dependencies.iter().map(|dependency| places.get(dependency).copied()).collect();
                let Some(dependencies) = places_of else { return true };
                places.insert(node.handle, steps.len());
                steps.push(Step {
                    node: node.handle,
                    operation: lock(&node.operation).clone(),
                    dependencies,
                });
                false
            });
            if steps.len() == before {
                return Err(Status::INVALID_VALUE);
            }
        }
        Ok(steps)
    }

    fn copy(&self, driver: &Driver) -> Arc<Self> {
        let handle = new_handle();
        let copy = Self { handle, nodes: Mutex::default(), memory: self.memory.clone() };
        let copy = driver.graphs.insert(handle, copy);
        let mut renamed = HashMap::new();
        for node in lock(&self.nodes).iter() {
            let dependencies =
                lock(&node.dependencies).iter().filter_map(|old| renamed.get(old).copied()).collect();
            renamed.insert(node.handle, copy.add(driver, lock(&node.operation).clone(), dependencies));
        }
        copy
    }
}

const AUTO_FREE_ON_LAUNCH: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const ALL_FLAGS: u64 = 15;

fn instantiate(out: Out<Handle>, graph: Handle, flags: u64) -> Outcome {
    let driver = driver()?;
    let out = out.ok_or(Status::INVALID_VALUE)?;
    if flags & !ALL_FLAGS != 0
        || flags & (AUTO_FREE_ON_LAUNCH | DEVICE_LAUNCH) == (AUTO_FREE_ON_LAUNCH | DEVICE_LAUNCH)
    {
        return Err(Status::INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(Status::NOT_SUPPORTED);
    }
    let graph = driver.graphs.get(graph)?;
    let executable = Executable { steps: Mutex::new(graph.steps()?), _memory: graph.memory.clone() };
    let handle = new_handle();
    driver.executables.insert(handle, executable);
    out.write(handle);
    Ok(())
}

fn launch(executable: Handle, stream: Handle) -> Outcome {
    let current = current()?;
    let stream = resolve(&current, stream)?;
    let steps = lock(&current.driver.executables.get(executable)?.steps).clone();
    submit(&stream, Operation::Child(steps.into_iter().map(|step| step.operation).collect()))
}

/// `CUgraphExecUpdateResult`.
const UPDATED: c_int = 0;
const TOPOLOGY_CHANGED: c_int = 2;
const NODE_TYPE_CHANGED: c_int = 3;

/// Puts another graph's work into an executable of the same shape; what is wrong, and at which node.
fn update(executable: Handle, graph: Handle) -> Outcome<(c_int, Handle)> {
    let driver = driver()?;
    let executable = driver.executables.get(executable)?;
    let new = driver.graphs.get(graph)?.steps()?;
    let mut old = lock(&executable.steps);
    if old.len() != new.len() {
        return Ok((TOPOLOGY_CHANGED, 0));
    }
    for (old, new) in old.iter().zip(&new) {
        if old.dependencies != new.dependencies {
            return Ok((TOPOLOGY_CHANGED, new.node));
        }
        if old.operation.node_type() != new.operation.node_type() {
            return Ok((NODE_TYPE_CHANGED, new.node));
        }
    }
    for (old, new) in old.iter_mut().zip(new) {
        old.operation = new.operation;
    }
    Ok((UPDATED, 0))
}

fn updated(result: c_int) -> Outcome {
    if result == UPDATED { Ok(()) } else { Err(Status::GRAPH_EXEC_UPDATE_FAILURE) }
}

exports! {
    fn cuGraphCreate(out: Out<Handle>, flags: c_uint) {
        let out = out.filter(|_| flags == 0).ok_or(Status::INVALID_VALUE)?;
        out.write(Graph::create(driver()?).handle);
        Ok(())
    }

    fn cuGraphDestroy(graph: Handle) {
        Graph::destroy(driver()?, graph)
    }

    fn cuGraphClone(out: Out<Handle>, graph: Handle) {
        let driver = driver()?;
        let out = out.ok_or(Status::INVALID_VALUE)?;
        out.write(driver.graphs.get(graph)?.copy(driver).handle);
        Ok(())
    }

    /// The form of CUDA 11 and before: no flags, a place for the node at fault and a log.
    fn cuGraphInstantiate(
        out: Out<Handle>,
        graph: Handle,
        node: Out<Handle>,
        _log: *mut c_char,
        _length: usize,
    ) {
        put_if_wanted(node, 0);
        instantiate(out, graph, 0)
    }

    fn cuGraphInstantiate_v2(
        out: Out<Handle>,
        graph: Handle,
        node: Out<Handle>,
        _log: *mut c_char,
        _length: usize,
    ) {
        put_if_wanted(node, 0);
        instantiate(out, graph, 0)
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(out, graph, flags)
    }

    fn cuGraphInstantiateWithParams(
        out: Out<Handle>,
        graph: Handle,
        params: Option<&mut GraphInstantiateParams>,
    ) {
        let params = params.ok_or(Status::INVALID_VALUE)?;
        let outcome = instantiate(out, graph, params.flags);
        params.error_node = 0;
        params.result = if outcome.is_ok() { 0 } else { 1 };
        outcome
    }

    fn cuGraphExecDestroy(executable: Handle) {
        driver()?.executables.remove(executable).map(|_| ())
    }

    fn cuGraphUpload(executable: Handle, stream: Handle) {
        let current = current()?;
        resolve(&current, stream)?;
        current.driver.executables.get(executable).map(|_| ())
    }

    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        launch(executable, stream)
    }

    fn cuGraphExecUpdate(executable: Handle, graph: Handle, node: Out<Handle>, result: Out<c_int>) {
        let (code, at) = update(executable, graph)?;
        put_if_wanted(node, at);
        put(result, code)?;
        updated(code)
    }

    fn cuGraphExecUpdate_v2(executable: Handle, graph: Handle, info: Out<GraphUpdateInfo>) {
        let (result, error_node) = update(executable, graph)?;
        put(info, GraphUpdateInfo { result, error_node, error_from_node: 0 })?;
        updated(result)
    }

    fn cuGraphExecGetFlags(executable: Handle, flags: Out<u64>) {
        driver()?.executables.get(executable)?;
        put(flags, 0)
    }
}
