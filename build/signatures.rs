//! Entry points of CUDA sources: names, launch bounds and parameters, without a compiler.

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// What it points to or is: `float`, `int`, ...
    pub kind: Kind,
    pub pointer: bool,
    /// A pointer that is only read through.
    pub constant: bool,
    /// The comment beside it.
    pub comment: String,
}

/// The scalar types that a kernel may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
    U16,
    U8,
}

/// An `extern "C" __global__` function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    /// Most threads of a block (`__launch_bounds__`).
    pub threads: u32,
    /// The comment lines right above it.
    pub comment: String,
    pub parameters: Vec<Parameter>,
    pub line: usize,
}

const MARK: &str = "extern \"C\" __global__ void";

/// The entry points of `source`, in their order. Errors give the line and what was expected there.
pub fn parse(source: &str) -> Result<Vec<Signature>, String> {
    let starts: Vec<usize> = source.match_indices(MARK).map(|(at, _)| at).collect();
    starts.into_iter().map(|at| signature(source, at)).collect()
}

fn signature(source: &str, at: usize) -> Result<Signature, String> {
    let line = 1 + source[..at].matches('\n').count();
    let wrong = |what: &str| format!("line {line}: {what}");
    let head = source[at + MARK.len()..].trim_start();
    let rest =
        head.strip_prefix("__launch_bounds__(").ok_or_else(|| wrong("expected __launch_bounds__(N)"))?;
    let (bounds, rest) = rest.split_once(')').ok_or_else(|| wrong("expected ) after the launch bounds"))?;
    let threads = bounds.split(',').next().unwrap_or_default().trim();
    let threads = number(source, threads)
        .ok_or_else(|| wrong(&format!("expected a number of threads, not `{threads}`")))?;
    let (name, rest) = rest.split_once('(').ok_or_else(|| wrong("expected ( after the name"))?;
    let end = closing(rest).ok_or_else(|| wrong("expected ) after the parameters"))?;
    let parameters = parameters(&rest[..end]).map_err(|what| wrong(&what))?;
    Ok(Signature {
        name: name.trim().to_string(),
        threads,
        comment: comment_above(&source[..at]),
        parameters,
        line,
    })
}

/// A literal, or the value of a `constexpr int` of the file.
fn number(source: &str, word: &str) -> Option<u32> {
    let constant =
        || source.split_once(&format!("constexpr int {word} = "))?.1.split_once(';')?.0.trim().parse().ok();
    word.parse().ok().or_else(constant)
}

/// Where the parameter list ends: the first `)` that is not in a comment.
fn closing(text: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        if let Some(at) = code.find(')') {
            return Some(offset + at);
        }
        offset += line.len();
    }
    None
}

fn comment_above(before: &str) -> String {
    let lines = before.trim_end_matches([' ', '\t']).lines().rev();
    let mut comment: Vec<&str> =
        lines.map_while(|line| line.trim().strip_prefix("//")).map(str::trim).collect();
    comment.reverse();
    comment.join("\n")
}

/// One a line: `const float *__restrict__ x, // comment`.
fn parameters(text: &str) -> Result<Vec<Parameter>, String> {
    let mut found: Vec<Parameter> = Vec::new();
    for line in text.lines() {
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        let (code, comment) = (code.trim().trim_end_matches(','), comment.trim());
        if code.is_empty() {
            // A comment that runs on below its parameter.
            if let Some(last) = found.last_mut().filter(|_| !comment.is_empty()) {
                last.comment = format!("{} {comment}", last.comment);
            }
            continue;
        }
        for code in code.split(',') {
            found.push(parameter(code, comment)?);
        }
    }
    if let Some(bare) = found.iter().find(|parameter| parameter.comment.is_empty()) {
        return Err(format!("parameter `{}` has no comment that says its role, shape and unit", bare.name));
    }
    Ok(found)
}

fn parameter(code: &str, comment: &str) -> Result<Parameter, String> {
    let spaced = code.replace('*', " * ").replace("__restrict__", " ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    let name = words.pop().ok_or("an empty parameter")?.to_string();
    let pointer = words.contains(&"*");
    let constant = words.contains(&"const");
    words.retain(|word| !["*", "const"].contains(word));
    let kind = match words.join(" ").as_str() {
        "float" => Kind::F32,
        "double" => Kind::F64,
        "int" => Kind::I32,
        "unsigned" | "unsigned int" => Kind::U32,
        "long long" => Kind::I64,
        "unsigned long long" => Kind::U64,
        "unsigned short" => Kind::U16,
        "unsigned char" => Kind::U8,
        other => return Err(format!("parameter `{name}` has the type `{other}`, which no launch can pass")),
    };
    Ok(Parameter { name, kind, pointer, constant, comment: comment.to_string() })
}

impl Kind {
    /// The Rust type.
    pub fn rust(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::U16 => "u16",
            Self::U8 => "u8",
        }
    }
}
