import CLiteRT
import HearpackKit

/// A .tflite in LiteRT's CompiledModel on the CPU, by the C API of a libLiteRt that the app (or a test) brings.
///
/// Tensors are found by their names in the signature, never by position. On Linux this is what lets the very same core
/// run with real inference; on a Mac it serves those who ship .tflite.
public final class LiteRTEngine: InferenceEngine {
    public let signature: GraphSignature
    public let info: EngineInfo

    private let engine: OpaquePointer
    private let what: String
    /// Positions in the file's signature, in the order of ours.
    private let inputs: [Int]
    private let stateInputs: [Int]
    private let outputs: [Int]
    private let stateOutputs: [Int]

    /// - Parameters:
    ///   - bundle: an opened bundle.
    ///   - artefact: one of its artefacts of format "litert" with explicit state.
    ///   - library: path of libLiteRt.
    /// - Throws: `artefact`: the library or the file cannot be used, or its tensors are not those of the manifest.
    public init(_ bundle: ModelBundle, _ artefact: Manifest.Artefact, library: String) throws {
        let path = bundle.folder.appendingPathComponent(artefact.path).path
        what = artefact.path
        signature = GraphSignature(bundle.manifest)
        info = EngineInfo(runtime: "litert", version: "C API", detail: "CompiledModel, CPU")
        var status: Int32 = 0
        guard let opened = litert_open(library, path, &status) else {
            throw HearpackError.artefact(Self.refusal(status, artefact.path, library))
        }
        engine = opened
        do {
            inputs = try Self.positions(opened, 0, signature.inputs.map { (artefact.fileName($0.name), $0.shape) }, what)
            stateInputs = try Self.positions(
                opened, 0, signature.states.map { (artefact.fileName($0.input), $0.shape) }, what)
            outputs = try Self.positions(opened, 1, signature.outputs.map { (artefact.fileName($0.name), $0.shape) }, what)
            stateOutputs = try Self.positions(
                opened, 1, signature.states.map { (artefact.fileName($0.output), $0.shape) }, what)
        } catch {
            litert_close(opened)
            throw error
        }
        let count = litert_count(opened, 0)
        // Everything is set from here on: what throws now runs deinit, which closes the engine.
        guard count == inputs.count + stateInputs.count else {
            throw HearpackError.artefact(
                "\(what): the manifest names \(inputs.count + stateInputs.count) inputs, the file has \(count); "
                    + "export the bundle again")
        }
    }

    deinit { litert_close(engine) }

    public func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into results: inout [[Float]],
        next: inout StreamState
    ) throws {
        try check(litert_write(engine, inputs[0], block.baseAddress, block.count))
        for index in stateInputs.indices {
            try state.read(index) { try check(litert_write(engine, stateInputs[index], $0.baseAddress, $0.count)) }
        }
        try check(litert_run(engine))
        for index in outputs.indices {
            try results[index].withUnsafeMutableBufferPointer {
                try check(litert_read(engine, outputs[index], $0.baseAddress, $0.count))
            }
        }
        for index in stateOutputs.indices {
            try next.write(index) { try check(litert_read(engine, stateOutputs[index], $0.baseAddress, $0.count)) }
        }
    }

    private func check(_ status: Int32) throws {
        guard status == 0 else {
            throw HearpackError.artefact("\(what): LiteRT failed to run it (status \(status)); the stream must be reset")
        }
    }

    private static func positions(
        _ engine: OpaquePointer, _ side: Int32, _ wanted: [(name: String, shape: [Int])], _ what: String
    ) throws -> [Int] {
        let count = litert_count(engine, side)
        let names = (0..<count).map { String(cString: litert_name(engine, side, $0)) }
        return try wanted.map { name, shape in
            guard let index = names.firstIndex(of: name) else {
                throw HearpackError.artefact(
                    "\(what): expected the \(side == 0 ? "input" : "output") \(name), the file has "
                        + "\(names.sorted().joined(separator: ", ")); export the bundle again")
            }
            let came = (0..<litert_rank(engine, side, index)).map { Int(litert_dimension(engine, side, index, $0)) }
            guard came == shape else {
                throw HearpackError.artefact("\(what): \(name): expected \(shape), the file has \(came)")
            }
            return index
        }
    }

    private static func refusal(_ status: Int32, _ path: String, _ library: String) -> String {
        switch Int(status) {
        case Int(LITERT_NO_LIBRARY): return "\(library) cannot be opened; name the libLiteRt of ai-edge-litert"
        case Int(LITERT_NO_SYMBOL): return "\(library) lacks a function of LiteRT's C API; use ai-edge-litert 2.x"
        case Int(LITERT_NOT_FLOAT32): return "\(path): expected float32 tensors only; export with float32 inputs and outputs"
        default: return "\(path): LiteRT cannot open it (status \(status)); export the bundle again"
        }
    }
}
