import XCTest

@testable import HearpackKit

final class ManifestTests: XCTestCase {
    private func refused(_ expected: String, _ change: @escaping (inout [String: Any]) -> Void) {
        assertThrows(expected) { _ = try manifest(change) }
    }

    func testReadsAndIgnoresWhatItDoesNotKnow() throws {
        let manifest = try manifest()
        XCTAssertEqual(manifest.geometry.delaySamples, 6)
        XCTAssertEqual(manifest.states[0].output, "h_out")
        XCTAssertEqual(manifest.artefacts[0].path, "coreml/toy.mlpackage")
        XCTAssertEqual(manifest.artefacts[0].minimumOS.ios, "16.0")
    }

    func testNewerSchema() {
        refused("schema hearpack/2 is not one this app reads (hearpack/1); update the app") { $0["schema"] = "hearpack/2" }
        XCTAssertNoThrow(try manifest { $0["schema"] = "hearpack/1.3" }, "a minor number is no obstacle")
        assertThrows("expected a manifest with schema hearpack/1, got no JSON") {
            _ = try Manifest.parse(Data("PK".utf8), origin: "test")
        }
    }

    func testMissingState() {
        refused("states is missing at the top") { $0.removeValue(forKey: "states") }
        refused("out is missing at states.0") {
            $0["states"] = [["in": "h", "shape": [1, 2], "dtype": "float32", "reset": "zeros"]]
        }
        refused("state h: expected float32 that starts with zeros") {
            $0["states"] = [["in": "h", "out": "h_out", "shape": [1, 2], "dtype": "float16", "reset": "zeros"]]
        }
    }

    func testContradictions() {
        refused("the model takes 2") {
            $0["geometry"] = ["sample_rate_hz": 16_000, "channels": 2, "window_samples": 8, "hop_samples": 4, "delay_samples": 6]
        }
        refused("the first input must be audio [1, 8], got audio [1, 4]") {
            $0["buffer"] = ["kind": "step", "hops_per_call": 2, "samples": 8]
        }
        refused("a classifier must have decisions") { $0["task"] = "classifier" }
        refused("task has a value that is not known") { $0["task"] = "embedder" }
        refused("name has another type") { $0["name"] = 3 }
    }

    func testHopSamples() throws {
        XCTAssertEqual(try manifest().hopSamples, 4)
        XCTAssertEqual(try windowed(hop: 3).hopSamples, 3)
        let withoutDecisions = try manifest { fields in
            fields["geometry"] = [
                "sample_rate_hz": 1_000, "channels": 1, "window_samples": 4, "hop_samples": 2, "delay_samples": 0,
            ]
            fields["buffer"] = ["kind": "window", "hops_per_call": 1, "samples": 4]
        }
        XCTAssertEqual(withoutDecisions.hopSamples, 2)
    }

    func testPathsStayInside() throws {
        let text = String(decoding: try manifestText(), as: UTF8.self)
            .replacingOccurrences(of: #"coreml\/toy"#, with: #"..\/toy"#)
        assertThrows("does not stay inside the bundle") { _ = try Manifest.parse(Data(text.utf8), origin: "test") }
    }

    // MARK: Bundles on disk

    private func bundle(_ content: String, labels: String? = nil, _ change: (inout [String: Any]) -> Void = { _ in }) throws
        -> ModelBundle
    {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).hearpack")
        let model = folder.appendingPathComponent("coreml/toy.mlpackage/Data/com.apple.CoreML/model.mlmodel")
        try FileManager.default.createDirectory(at: model.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(content.utf8).write(to: model)
        try manifestText(change).write(to: folder.appendingPathComponent("manifest.json"))
        if let labels { try Data(labels.utf8).write(to: folder.appendingPathComponent("labels.txt")) }
        addTeardownBlock { try FileManager.default.removeItem(at: folder) }
        return try ModelBundle(opening: folder)
    }

    func testHashes() throws {
        let sound = try bundle("abc")
        let artefact = try sound.manifest.artefact(format: "coreml", in: sound.folder)
        XCTAssertNoThrow(try sound.checkFiles(artefact))
        let changed = try bundle("abd")
        assertThrows("does not match the manifest (expected 3 bytes, sha256 ba7816bf8f01…, got sha256 a52d159f262b…)") {
            try changed.checkFiles(artefact)
        }
        let longer = try bundle("abcd")
        assertThrows("got 4 bytes") { try longer.checkFiles(artefact) }
        try FileManager.default.removeItem(at: longer.folder.appendingPathComponent("coreml"))
        assertThrows("is missing; artefact coreml-fp32 is incomplete") { try longer.checkFiles(artefact) }
        assertThrows("no coreml artefact is installed") { _ = try longer.manifest.artefact(format: "coreml", in: longer.folder) }
    }

    func testFoldersWithoutABundle() {
        let nowhere = FileManager.default.temporaryDirectory.appendingPathComponent("no-such-folder")
        assertThrows("expected a bundle (a folder with manifest.json), found none") { _ = try ModelBundle(opening: nowhere) }
        XCTAssertEqual(ModelBundle.all(in: nowhere), [])
    }

    func testLabels() throws {
        let classifier: (inout [String: Any]) -> Void = { fields in
            fields["task"] = "classifier"
            fields["decisions"] = [
                "window_hop_samples": 4, "smoothing_windows": 1, "on_threshold": 0.5, "off_threshold": 0.3,
                "min_on_ms": 0.0, "min_off_ms": 0.0,
            ]
        }
        XCTAssertEqual(try bundle("abc", labels: "a\nb\nc\nd\n", classifier).labels(), ["a", "b", "c", "d"])
        assertThrows("expected 4 labels, one a line, got 3") { _ = try bundle("abc", labels: "a\nb\nc\n", classifier).labels() }
        assertThrows("labels.txt cannot be read") { _ = try bundle("abc", classifier).labels() }
    }

    func testSHA256() {
        XCTAssertEqual(SHA256.hex(Data()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(SHA256.hex(Data("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        XCTAssertEqual(SHA256.hex(Data(two.utf8)), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        XCTAssertEqual(
            SHA256.hex(Data(repeating: 97, count: 1_000_000)), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }
}
