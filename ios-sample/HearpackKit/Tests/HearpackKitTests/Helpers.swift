import Foundation
import XCTest

@testable import HearpackKit

/// tests/fixtures of the repository: the goldens that Python, Kotlin and Swift share.
func fixture(_ path: String) throws -> Data {
    let root = (0..<5).reduce(URL(fileURLWithPath: #filePath)) { url, _ in url.deletingLastPathComponent() }
    return try Data(contentsOf: root.appendingPathComponent("tests/fixtures/\(path)"))
}

/// A trace as `DeviceTrace.json` writes it.
func readTrace(_ text: Data) throws -> DeviceTrace {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(DeviceTrace.self, from: text)
}

/// Any JSON object, to be compared.
func object(_ text: Data) throws -> NSDictionary {
    try XCTUnwrap(JSONSerialization.jsonObject(with: text) as? NSDictionary)
}

func assertThrows(_ expected: String, _ body: () throws -> Void, file: StaticString = #filePath, line: UInt = #line) {
    XCTAssertThrowsError(try body(), file: file, line: line) { error in
        let message = (error as? HearpackError)?.message ?? "no HearpackError: \(error)"
        XCTAssertTrue(message.contains(expected), "expected \"\(expected)\" in: \(message)", file: file, line: line)
    }
}

func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

/// A manifest as text, fields replaced: JSON in, JSON out.
func manifestText(_ change: (inout [String: Any]) -> Void = { _ in }) throws -> Data {
    var fields = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(stepManifest.utf8)) as? [String: Any])
    change(&fields)
    return try JSONSerialization.data(withJSONObject: fields)
}

func manifest(_ change: (inout [String: Any]) -> Void = { _ in }) throws -> Manifest {
    try Manifest.parse(try manifestText(change), origin: "test")
}

/// An entry of a manifest's `files`.
func fileEntry(_ path: String, _ text: String) -> [String: Any] {
    ["path": path, "sha256": FileDigest.hex(Data(text.utf8)), "bytes": text.utf8.count]
}

/// A step net: 4 samples per call, delay 6, one state of 2.
let stepManifest = """
    {"schema": "hearpack/1", "name": "toy", "task": "enhancer", "future_field": {"ignored": true},
     "geometry": {"sample_rate_hz": 16000, "channels": 1, "window_samples": 8, "hop_samples": 4, "delay_samples": 6},
     "buffer": {"kind": "step", "hops_per_call": 1, "samples": 4},
     "inputs": [{"name": "audio", "shape": [1, 4], "dtype": "float32", "range": [-1, 1], "meaning": "audio"}],
     "outputs": [{"name": "enhanced", "shape": [1, 4], "dtype": "float32", "range": [-1, 1], "meaning": "audio"}],
     "states": [{"in": "h", "out": "h_out", "shape": [1, 2], "dtype": "float32", "reset": "zeros"}],
     "artefacts": [{"id": "coreml-fp32", "format": "coreml", "precision": {"weights": "fp32", "compute": "fp32"},
       "files": [{"path": "coreml/toy.mlpackage/Data/com.apple.CoreML/model.mlmodel", "bytes": 3,
                  "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}],
       "minimum_os": {"ios": "16.0"}, "allowed_compute": ["cpu"], "io": {}, "state_mode": "explicit",
       "tolerance": [{"metric": "snr_db", "limit": 110.0}]}],
     "files": []}
    """

/// Turns the toy into a windowed classifier: windows of 4, every `hop`, two labels.
func windowed(hop: Int, decisions: [String: Any] = [:]) throws -> Manifest {
    try manifest { fields in
        fields["task"] = "classifier"
        fields["geometry"] = ["sample_rate_hz": 4_000, "channels": 1, "window_samples": 4, "hop_samples": 2, "delay_samples": 0]
        fields["buffer"] = ["kind": "window", "hops_per_call": 1, "samples": 4]
        fields["outputs"] = [["name": "scores", "shape": [1, 2], "dtype": "float32", "range": [0, 1], "meaning": "scores"]]
        fields["states"] = [Any]()
        let defaults: [String: Any] = [
            "window_hop_samples": hop, "smoothing_windows": 1, "on_threshold": 0.5, "off_threshold": 0.3,
            "min_on_ms": 0.0, "min_off_ms": 0.0, "per_label": [String: Any](),
        ]
        fields["decisions"] = defaults.merging(decisions) { _, new in new }
    }
}

extension XCTestCase {
    /// A bundle folder with only a manifest and labels: the worker asks for no more.
    func bundle(_ text: Data) throws -> ModelBundle {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).hearpack")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var fields = try XCTUnwrap(JSONSerialization.jsonObject(with: text) as? [String: Any])
        fields["files"] = [fileEntry("labels.txt", "dog\ncat\n")]
        try JSONSerialization.data(withJSONObject: fields).write(to: folder.appendingPathComponent("manifest.json"))
        try Data("dog\ncat\n".utf8).write(to: folder.appendingPathComponent("labels.txt"))
        addTeardownBlock { try FileManager.default.removeItem(at: folder) }
        return try ModelBundle(opening: folder)
    }
}

/// The trace of a recorder, with thermal state, route and compute unit of no device.
func makeTrace(_ recorder: TraceRecorder, _ manifest: Manifest, _ clock: any StreamClock) throws -> DeviceTrace {
    recorder.thermal(.nominal, timeNs: 0)
    recorder.route(DeviceTrace.Route(timeNs: 0, input: .builtIn, rateHz: 16_000))
    recorder.computeUnit(DeviceTrace.ComputeUnit(timeNs: 0, requested: "cpu", used: "cpu"))
    return try recorder.finish(
        app: DeviceTrace.App(name: "test", version: "1", build: "debug"),
        device: DeviceTrace.Device(manufacturer: "a", model: "b", os: "linux", osVersion: "1", emulated: true),
        bundle: DeviceTrace.Model(manifest, manifest.artefacts[0], EngineInfo(runtime: "fake", version: "1", detail: "")),
        audio: DeviceTrace.Audio(
            modelRateHz: 16_000, requested: CaptureFormat(rateHz: 16_000, channels: 1),
            granted: CaptureFormat(rateHz: 16_000, channels: 1)),
        reason: .stopped, timeNs: clock.nowNs())
}

/// Plays an engine: what it was given is kept; outputs are computed by a closure.
final class FakeEngine: InferenceEngine {
    let signature: GraphSignature
    let info = EngineInfo(runtime: "fake", version: "1", detail: "")
    var blocks: [[Float]] = []
    var resets = 0
    var failAtCall: Int?
    var compute: ([Float], StreamState) -> (output: [Float], state: [Float])

    init(_ manifest: Manifest, _ compute: @escaping ([Float], StreamState) -> ([Float], [Float])) {
        signature = GraphSignature(manifest)
        self.compute = compute
    }

    /// Gives the block back, counts calls in the state.
    convenience init(echo manifest: Manifest) {
        self.init(manifest) { block, state in (block, [(state.tensors.first?.first ?? 0) + 1, 7]) }
    }

    func reset() { resets += 1 }

    func step(
        _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
        next: inout StreamState
    ) throws {
        if blocks.count == failAtCall { throw HearpackError.artefact("toy: the engine failed") }
        blocks.append(Array(block))
        let (output, new) = compute(Array(block), state)
        for i in output.indices { outputs[0][i] = output[i] }
        if !signature.states.isEmpty { next.write(0) { for i in $0.indices { $0[i] = new[i] } } }
    }
}

/// A clock that a test moves.
final class FakeClock: StreamClock, @unchecked Sendable {
    private let lock = NSLock()
    private var time: Int64 = 0

    func nowNs() -> Int64 {
        lock.lock()
        defer { lock.unlock() }
        time += 1_000
        return time
    }
}

/// A clock that stands where a test puts it.
final class SetClock: StreamClock, @unchecked Sendable {
    var ns: Int64 = 0
    func nowNs() -> Int64 { ns }
}

/// A value that two threads may use.
final class Locked<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: Value

    init(_ value: Value) { stored = value }

    var value: Value {
        get {
            lock.lock()
            defer { lock.unlock() }
            return stored
        }
        set {
            lock.lock()
            defer { lock.unlock() }
            stored = newValue
        }
    }
}
