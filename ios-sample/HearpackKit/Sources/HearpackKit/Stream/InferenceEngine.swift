/// One call of the graph: names, shapes and order, as the manifest gives them.
public struct GraphSignature: Equatable, Sendable {
    public let inputs: [Manifest.Tensor]
    public let outputs: [Manifest.Tensor]
    public let states: [Manifest.State]

    public init(_ manifest: Manifest) {
        inputs = manifest.inputs
        outputs = manifest.outputs
        states = manifest.states
    }

    /// Elements of a shape.
    public static func count(_ shape: [Int]) -> Int { shape.reduce(1, *) }
}

/// Every state tensor of a stream, in the manifest's order. A value: keep a copy, and the stream can go back to it.
public struct StreamState: Equatable, Sendable {
    public internal(set) var tensors: [[Float]]

    /// The state at the start of a stream: zeros.
    public init(_ signature: GraphSignature) {
        tensors = signature.states.map { [Float](repeating: 0, count: GraphSignature.count($0.shape)) }
    }

    /// Engines write here; in place, if nobody keeps a copy.
    public mutating func write(_ index: Int, _ body: (UnsafeMutableBufferPointer<Float>) throws -> Void) rethrows {
        try tensors[index].withUnsafeMutableBufferPointer { try body($0) }
    }

    /// Engines read here.
    public func read(_ index: Int, _ body: (UnsafeBufferPointer<Float>) throws -> Void) rethrows {
        try tensors[index].withUnsafeBufferPointer { try body($0) }
    }
}

/// Who computes.
public struct EngineInfo: Equatable, Sendable {
    /// "litert", "coreml" or "coreai", as in a device trace.
    public let runtime: String
    public let version: String
    /// What else matters to a reader of a report: threads, compute units, cache.
    public let detail: String

    public init(runtime: String, version: String, detail: String) {
        self.runtime = runtime
        self.version = version
        self.detail = detail
    }
}

/// A loaded artefact, ready to be called. Used by one thread at a time.
///
/// `step(block, state) -> (outputs, next)`: no hidden state, so a reset is the zero state and two streams may share an
/// engine by turns. An engine in Core ML's stateful mode (`mlstate`) is the exception: it forgets at `reset()`.
public protocol InferenceEngine: AnyObject {
    var signature: GraphSignature { get }
    var info: EngineInfo { get }

    /// Begin a new stream. Engines whose state is a value have nothing to do.
    func reset() throws

    /// One call.
    ///
    /// - Parameters:
    ///   - block: `audio`, as many samples as the buffer.
    ///   - state: what the last call gave, or the zero state.
    ///   - outputs: filled by the call, one array an output, in the manifest's order.
    ///   - next: filled by the call; never the same storage as `state`.
    /// - Throws: `artefact`: the runtime failed.
    func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws
}

extension InferenceEngine {
    public func reset() throws {}

    /// Calls on silence, before a stream is called ready: loaded is not warm.
    public func warmUp(calls: Int) throws {
        try reset()
        var state = StreamState(signature)
        var next = StreamState(signature)
        var outputs = signature.outputs.map { [Float](repeating: 0, count: GraphSignature.count($0.shape)) }
        let silence = [Float](repeating: 0, count: GraphSignature.count(signature.inputs[0].shape))
        for _ in 0..<calls {
            try silence.withUnsafeBufferPointer { try step($0, state, into: &outputs, next: &next) }
            swap(&state, &next)
        }
        try reset()
    }
}

/// What a call does, tensor by tensor, in order: docs/core-ml-engine.md is this table, and tests hold both to it.
public struct CallPlan: Equatable, Sendable {
    public enum Action: String, Sendable { case write, predict, read }

    public struct Step: Equatable, Sendable {
        public let action: Action
        /// The file's name of the tensor; empty for `predict`.
        public let tensor: String
        public let shape: [Int]
        /// Where the values come from or go to, in our names.
        public let carries: String
    }

    public let steps: [Step]

    /// - Parameter artefact: gives the file's names, and whether the state is explicit.
    public init(_ signature: GraphSignature, _ artefact: Manifest.Artefact) {
        let states = artefact.stateMode == .explicit ? signature.states : []
        steps =
            signature.inputs.map {
                Step(action: .write, tensor: artefact.fileName($0.name), shape: $0.shape, carries: "block")
            }
            + states.map {
                Step(action: .write, tensor: artefact.fileName($0.input), shape: $0.shape, carries: "state \($0.input)")
            }
            + [Step(action: .predict, tensor: "", shape: [], carries: "")]
            + signature.outputs.map {
                Step(action: .read, tensor: artefact.fileName($0.name), shape: $0.shape, carries: "output \($0.name)")
            }
            + states.map {
                Step(action: .read, tensor: artefact.fileName($0.output), shape: $0.shape, carries: "state \($0.input)")
            }
    }

    /// Rows of the table in docs/core-ml-engine.md.
    public var rows: [String] {
        steps.enumerated().map { index, step in
            let shape = step.shape.isEmpty ? "" : "[\(step.shape.map(String.init).joined(separator: ", "))]"
            return "| \(index + 1) | \(step.action.rawValue) | \(step.tensor) | \(shape) | \(step.carries) |"
        }
    }
}

/// Visits the rows of a tensor that lies with strides: `body` gets the row's offset in the strided storage, its offset
/// without gaps, its width, and the stride within it.
private func eachRow(_ shape: [Int], _ strides: [Int], _ body: (Int, Int, Int, Int) -> Void) {
    guard let width = shape.last, let step = strides.last else { return body(0, 0, 1, 1) }  // a scalar
    let rows = shape.dropLast().reduce(1, *)
    for row in 0..<rows {
        var rest = row
        var offset = 0
        for axis in stride(from: shape.count - 2, through: 0, by: -1) {
            offset += rest % shape[axis] * strides[axis]
            rest /= shape[axis]
        }
        body(offset, row * width, width, step)
    }
}

/// Copies a tensor that lies with strides into one that lies without gaps, last axis fastest, as Core ML asks for:
/// it may pad the rows of its outputs.
///
/// - Parameters:
///   - source: the first element.
///   - shape: elements along each axis.
///   - strides: elements from one to the next along each axis.
///   - target: at least as many elements as the shape has.
public func copyStrided(
    _ source: UnsafePointer<Float>, shape: [Int], strides: [Int], to target: UnsafeMutablePointer<Float>
) {
    eachRow(shape, strides) { offset, at, width, step in
        for i in 0..<width { target[at + i] = source[offset + i * step] }
    }
}

/// The way back: from one without gaps into one with strides; what lies in the gaps is left alone.
public func copyStrided(
    _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, shape: [Int], strides: [Int]
) {
    eachRow(shape, strides) { offset, at, width, step in
        for i in 0..<width { target[offset + i * step] = source[at + i] }
    }
}
