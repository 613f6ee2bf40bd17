#if canImport(CoreML)
@preconcurrency import CoreML
import Foundation
import HearpackKit

/// An .mlpackage in Core ML, called exactly as docs/core-ml-engine.md says: that table is `CallPlan`, and this is what
/// carries it out.
///
/// Used by one thread at a time, whoever that is: hence unchecked.
public final class CoreMLEngine: InferenceEngine, @unchecked Sendable {
    public let signature: GraphSignature
    public let info: EngineInfo
    /// Whether the compiled model was in the cache.
    public let wasCached: Bool

    private let model: MLModel
    private let artefact: Manifest.Artefact
    /// Made once and written to at every call.
    private let inputs: [MLMultiArray]
    private let provider: MLDictionaryFeatureProvider
    private let outputNames: [String]
    private let stateNames: [String]
    /// An MLState where the artefact keeps its state inside (iOS 18).
    private var hidden: AnyObject?

    /// Compile (once per device and version of its system, then from the cache), load and check against the manifest.
    ///
    /// - Parameters:
    ///   - bundle: an opened bundle, its hashes checked.
    ///   - artefact: one of its artefacts of format "coreml".
    ///   - cacheFolder: where compiled models are kept; the system may empty it.
    /// - Throws: `artefact`: the package does not compile or load, or its tensors are not those of the manifest.
    public static func load(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, cacheFolder: URL
    ) async throws -> CoreMLEngine {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits(artefact.allowedCompute)
        let cached = cacheFolder.appendingPathComponent(cacheKey(artefact))
        if FileManager.default.fileExists(atPath: cached.path) {
            if let model = try? await MLModel.load(contentsOf: cached, configuration: configuration) {
                return try CoreMLEngine(bundle, artefact, model, wasCached: true)
            }
            try? FileManager.default.removeItem(at: cached)  // damaged: compile again
        }
        do {
            let package = bundle.folder.appendingPathComponent(artefact.path)
            let compiled = try await MLModel.compileModel(at: package)
            try FileManager.default.createDirectory(at: cacheFolder, withIntermediateDirectories: true)
            try? FileManager.default.removeItem(at: cached)
            try FileManager.default.moveItem(at: compiled, to: cached)
            let model = try await MLModel.load(contentsOf: cached, configuration: configuration)
            return try CoreMLEngine(bundle, artefact, model, wasCached: false)
        } catch {
            throw HearpackError.translating(error) {
                .artefact(
                    "\(artefact.path): Core ML cannot compile or load it on this device: \($0). "
                        + "Restart the device if its storage is full or it is hot; else install another artefact "
                        + "(hearpack install --artefact coreml-fp32)")
            }
        }
    }

    private init(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, _ model: MLModel, wasCached: Bool
    ) throws {
        signature = GraphSignature(bundle.manifest)
        self.model = model
        self.artefact = artefact
        self.wasCached = wasCached
        let units = artefact.allowedCompute.map(\.rawValue).joined(separator: ", ")
        info = EngineInfo(
            runtime: "coreml", version: ProcessInfo.processInfo.operatingSystemVersionString,
            detail: "asked for \(units), \(wasCached ? "compiled model cached" : "compiled now")")
        let plan = CallPlan(signature, artefact).steps
        try Self.check(plan, .write, model.modelDescription.inputDescriptionsByName, artefact.path)
        try Self.check(plan, .read, model.modelDescription.outputDescriptionsByName, artefact.path)
        let writes = plan.filter { $0.action == .write }
        inputs = try writes.map {
            try MLMultiArray(shape: $0.shape.map { NSNumber(value: $0) }, dataType: .float32)
        }
        provider = try MLDictionaryFeatureProvider(
            dictionary: Dictionary(
                uniqueKeysWithValues: zip(writes.map(\.tensor), inputs.map { MLFeatureValue(multiArray: $0) })))
        outputNames = signature.outputs.map { artefact.fileName($0.name) }
        stateNames = artefact.stateMode == .explicit ? signature.states.map { artefact.fileName($0.output) } : []
        try reset()
    }

    /// A new hidden state, where the artefact has one.
    public func reset() throws {
        guard artefact.stateMode == .mlstate else { return }
        guard #available(iOS 18.0, macOS 15.0, *) else {
            throw HearpackError.artefact(
                "\(artefact.path): its state lives inside Core ML (MLState), which needs iOS 18; install an artefact with "
                    + "explicit state (hearpack install --artefact coreml-fp32)")
        }
        hidden = model.makeState()
    }

    public func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        write(block, 0)
        for index in stateNames.indices { state.read(index) { write($0, signature.inputs.count + index) } }
        let results: any MLFeatureProvider
        do {
            results = try predict()
        } catch {
            throw HearpackError.translating(error) {
                .artefact("\(artefact.path): Core ML failed to run it: \($0); the stream must be reset")
            }
        }
        for index in outputNames.indices {
            try outputs[index].withUnsafeMutableBufferPointer {
                try read(results, outputNames[index], signature.outputs[index].shape, $0)
            }
        }
        for index in stateNames.indices {
            try next.write(index) { try read(results, stateNames[index], signature.states[index].shape, $0) }
        }
    }

    private func predict() throws -> any MLFeatureProvider {
        if #available(iOS 18.0, macOS 15.0, *), let kept = hidden as? MLState {
            return try model.prediction(from: provider, using: kept)
        }
        return try model.prediction(from: provider)
    }

    private func write(_ values: UnsafeBufferPointer<Float>, _ input: Int) {
        inputs[input].withUnsafeMutableBytes { raw, strides in
            guard let target = raw.baseAddress?.assumingMemoryBound(to: Float.self), let source = values.baseAddress else {
                return
            }
            copyStrided(source, to: target, shape: inputs[input].shape.map(\.intValue), strides: strides)
        }
    }

    /// By strides: how an output lies in memory is Core ML's choice at run time.
    private func read(
        _ results: any MLFeatureProvider, _ name: String, _ shape: [Int], _ target: UnsafeMutableBufferPointer<Float>
    ) throws {
        guard let array = results.featureValue(for: name)?.multiArrayValue, array.dataType == .float32,
            array.shape.map(\.intValue) == shape
        else {
            throw HearpackError.artefact("\(artefact.path): output \(name) is not float32 \(shape); export the bundle again")
        }
        let strides = array.strides.map(\.intValue)
        array.withUnsafeBytes { raw in
            guard let source = raw.baseAddress?.assumingMemoryBound(to: Float.self), let out = target.baseAddress else {
                return
            }
            copyStrided(source, shape: shape, strides: strides, to: out)
        }
    }

    private static func check(
        _ plan: [CallPlan.Step], _ action: CallPlan.Action, _ there: [String: MLFeatureDescription], _ what: String
    ) throws {
        let side = action == .write ? "input" : "output"
        for step in plan where step.action == action {
            guard let constraint = there[step.tensor]?.multiArrayConstraint else {
                throw HearpackError.artefact(
                    "\(what): expected the \(side) \(step.tensor), the package has "
                        + "\(there.keys.sorted().joined(separator: ", ")); export the bundle again")
            }
            let shape = constraint.shape.map(\.intValue)
            // Core ML may leave an output's shape open; it is then checked at every read.
            let open = action == .read && shape.isEmpty
            guard constraint.dataType == .float32, open || shape == step.shape else {
                throw HearpackError.artefact(
                    "\(what): \(side) \(step.tensor): expected float32 \(step.shape), the package has \(shape); "
                        + "export the bundle again")
            }
        }
    }

    /// Only units that passed the artefact's stress (`allowed_compute`).
    static func computeUnits(_ allowed: [Manifest.Compute]) -> MLComputeUnits {
        switch (allowed.contains(.gpu), allowed.contains(.npu)) {
        case (true, true): return .all
        case (true, false): return .cpuAndGPU
        case (false, true): return .cpuAndNeuralEngine
        case (false, false): return .cpuOnly
        }
    }

    /// A compiled model belongs to its bytes and to the system that compiled it.
    static func cacheKey(_ artefact: Manifest.Artefact) -> String {
        artefact.key(ProcessInfo.processInfo.operatingSystemVersionString) + ".mlmodelc"
    }
}
#endif
