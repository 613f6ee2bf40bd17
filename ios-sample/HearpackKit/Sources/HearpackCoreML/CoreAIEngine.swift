#if canImport(CoreAI)
import CoreAI
import Foundation
import HearpackKit

/// An .aimodel in Core AI, iOS 27: experimental, and never run on a device. Its calls are those of `CallPlan`, as Core
/// ML's are (docs/core-ml-engine.md).
///
/// Core AI answers asynchronously. The stream's worker is a thread of its own, so it waits for each answer. Used by one
/// thread at a time, whoever that is: hence unchecked.
@available(iOS 27.0, macOS 27.0, *)
public final class CoreAIEngine: InferenceEngine, @unchecked Sendable {
    public let signature: GraphSignature
    public let info: EngineInfo

    private let function: InferenceFunction
    private let path: String
    private let writes: [CallPlan.Step]
    private let reads: [CallPlan.Step]

    /// Load, on the CPU alone, and check against the manifest. The first load on a device takes longer: the system
    /// prepares the model for its processor and keeps that.
    ///
    /// - Parameters:
    ///   - bundle: an opened bundle, its hashes checked.
    ///   - artefact: one of its artefacts of format "coreai", with explicit state.
    /// - Throws: `artefact`: the asset does not load, or its tensors are not those of the manifest.
    public static func load(_ bundle: ModelBundle, _ artefact: Manifest.Artefact) async throws -> CoreAIEngine {
        do {
            let asset = bundle.folder.appendingPathComponent(artefact.path)
            let model = try await AIModel(contentsOf: asset, options: .cpuOnly)
            guard let function = try model.loadFunction(named: "main"),
                let description = model.functionDescriptor(for: "main")
            else { throw HearpackError.artefact("\(artefact.path): it has no function main; export the bundle again") }
            return try CoreAIEngine(bundle, artefact, function, description)
        } catch {
            throw HearpackError.translating(error) {
                .artefact("\(artefact.path): Core AI cannot load it on this device: \($0); the Core ML artefact is used")
            }
        }
    }

    private init(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, _ function: InferenceFunction,
        _ description: InferenceFunctionDescriptor
    ) throws {
        signature = GraphSignature(bundle.manifest)
        self.function = function
        path = artefact.path
        info = EngineInfo(
            runtime: "coreai", version: ProcessInfo.processInfo.operatingSystemVersionString, detail: "asked for cpu")
        let plan = CallPlan(signature, artefact).steps
        writes = plan.filter { $0.action == .write }
        reads = plan.filter { $0.action == .read }
        try Self.check("inputs", writes, description.inputNames, artefact.path)
        try Self.check("outputs", reads, description.outputNames, artefact.path)
    }

    private static func check(_ side: String, _ wanted: [CallPlan.Step], _ there: [String], _ what: String) throws {
        guard Set(wanted.map(\.tensor)) == Set(there) else {
            throw HearpackError.artefact(
                "\(what): expected the \(side) \(wanted.map(\.tensor).joined(separator: ", ")), the asset has "
                    + "\(there.joined(separator: ", ")); export the bundle again")
        }
    }

    public func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        let values = [Array(block)] + state.tensors
        let results = try answer(to: values)
        for index in outputs.indices { outputs[index] = results[index] }
        for index in signature.states.indices {
            next.write(index) { _ = $0.update(from: results[outputs.count + index]) }
        }
    }

    /// What the graph gives for the tensors of a call, in the order of the plan.
    private func answer(to values: [[Float]]) throws -> [[Float]] {
        let reply = Reply()
        let done = DispatchSemaphore(value: 0)
        Task.detached(priority: .high) { [self] in
            do { reply.result = .success(try await run(values)) } catch { reply.result = .failure(error) }
            done.signal()
        }
        done.wait()
        do {
            return try reply.result.get()
        } catch {
            throw HearpackError.translating(error) {
                .artefact("\(path): Core AI failed to run it: \($0); the stream must be reset")
            }
        }
    }

    private func run(_ values: [[Float]]) async throws -> [[Float]] {
        var inputs: [String: NDArray] = [:]
        for (step, scalars) in zip(writes, values) { inputs[step.tensor] = NDArray(scalars: scalars, shape: step.shape) }
        var outputs = try await function.run(inputs: inputs)
        return try reads.map { step in
            guard let array = outputs.remove(step.tensor)?.ndArray, array.scalarType == .float32, array.shape == step.shape
            else {
                throw HearpackError.artefact(
                    "\(path): output \(step.tensor) is not float32 \(step.shape); export the bundle again")
            }
            var scalars = [Float](repeating: 0, count: GraphSignature.count(step.shape))
            scalars.withUnsafeMutableBufferPointer { target in
                guard let out = target.baseAddress else { return }
                // By strides: how an output lies in memory is Core AI's choice.
                array.view(as: Float.self).withUnsafePointer { source, shape, strides in
                    copyStrided(source, shape: shape, strides: strides, to: out)
                }
            }
            return scalars
        }
    }

    /// Where the task leaves what the waiting thread takes; the semaphore orders the two.
    private final class Reply: @unchecked Sendable {
        var result: Result<[[Float]], any Error> = .success([])
    }
}
#endif
