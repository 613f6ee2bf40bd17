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

    func testMoreInputsAndOutputs() throws {
        func tensor(_ name: String, _ count: Int) -> [String: Any] {
            ["name": name, "shape": [1, count], "dtype": "float32", "range": [-3.4e38, 3.4e38], "meaning": "m"]
        }
        let manifest = try manifest { $0["outputs"] = [tensor("enhanced", 4), tensor("vad", 1)] }
        XCTAssertEqual(manifest.outputs.map(\.name), ["enhanced", "vad"])
        refused("this app feeds audio alone, the model also takes far") {
            $0["inputs"] = [tensor("audio", 4), tensor("far", 4)]
        }
        refused("this app plays one output, a separator gives 2") {
            $0["task"] = "separator"
            $0["outputs"] = [tensor("voice", 4), tensor("noise", 4)]
        }
    }

    func testFiguresThatNoModelHas() {
        func geometry(_ changes: [String: Any]) -> (inout [String: Any]) -> Void {
            { fields in
                let all: [String: Any] = [
                    "sample_rate_hz": 16_000, "channels": 1, "window_samples": 8, "hop_samples": 4, "delay_samples": 6,
                ]
                fields["geometry"] = all.merging(changes) { _, new in new }
            }
        }
        refused("sample_rate_hz: expected 4000 to 192000, got 1000000000000000", geometry(["sample_rate_hz": 1e15]))
        refused("delay_samples: expected 0 to 16777216", geometry(["delay_samples": 1e12]))
        for shape in [[], [1 << 40, 2], [0, 2], [1 << 26, 1 << 26], [1, 1, 1, 1, 1, 1, 1, 1, 1]] {
            refused("expected 1 to 8 axes") {
                $0["states"] = [["in": "h", "out": "h_out", "shape": shape, "dtype": "float32", "reset": "zeros"]]
            }
        }
        refused("playout.prefil: unknown key; known: prefill_samples") { $0["playout"] = ["prefil": 1] }
        refused("prefill_samples: expected 0") { $0["playout"] = ["prefill_samples": -1] }
        refused("name ../../..: expected") { $0["name"] = "../../.." }
        refused("starts with zeros, got float32, ../../x") {
            $0["states"] = [["in": "h", "out": "h_out", "shape": [1, 2], "dtype": "float32", "reset": "../../x"]]
        }
        refused("no `files`, the list with a hash of every file") { $0.removeValue(forKey: "files") }
        refused("a path is listed twice") { $0["files"] = [fileEntry("a", ""), fileEntry("A", "")] }
    }

    func testHopSamples() throws {
        XCTAssertEqual(try manifest().hopSamples, 4)
        XCTAssertEqual(try windowed(hop: 3).hopSamples, 3)
        let withoutDecisions = try manifest { fields in
            fields["geometry"] = [
                "sample_rate_hz": 4_000, "channels": 1, "window_samples": 4, "hop_samples": 2, "delay_samples": 0,
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
        let text = try manifestText { fields in
            if let labels { fields["files"] = [fileEntry("labels.txt", labels)] }
            change(&fields)
        }
        try text.write(to: folder.appendingPathComponent("manifest.json"))
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
        assertThrows("model.mlmodel: missing; the bundle is incomplete") { try longer.checkFiles(artefact) }
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
        assertThrows("expected 4 labels, one per line, got 3") { _ = try bundle("abc", labels: "a\nb\nc\n", classifier).labels() }
        assertThrows("labels.txt is not among the manifest's `files`") { _ = try bundle("abc", classifier).labels() }
        let turned = try bundle("abc", labels: "a\nb\nc\nd\n", classifier)
        try Data("d\nc\nb\na\n".utf8).write(to: turned.folder.appendingPathComponent("labels.txt"))
        assertThrows("labels.txt does not match the manifest") { _ = try turned.labels() }
    }

    func testWhatIsNoPlainFileOfTheBundleIsNotRead() throws {
        let sound = try bundle("abc", labels: "a\n")
        let labels = sound.folder.appendingPathComponent("labels.txt")
        XCTAssertEqual(try sound.read("labels.txt"), Data("a\n".utf8))
        try FileManager.default.removeItem(at: labels)
        assertThrows("missing") { _ = try sound.read("labels.txt") }
        try FileManager.default.createSymbolicLink(
            at: labels, withDestinationURL: sound.folder.appendingPathComponent("manifest.json"))
        assertThrows("goes through a link") { _ = try sound.read("labels.txt") }
        try FileManager.default.removeItem(at: labels)
        XCTAssertEqual(mkfifo(labels.path, 0o600), 0)
        assertThrows("no plain file") { _ = try sound.read("labels.txt") }
        let stranger = sound.folder.appendingPathComponent("coreml/toy.mlpackage/Data/weights.bin")
        try Data("x".utf8).write(to: stranger)
        let artefact = try sound.manifest.artefact(format: "coreml", in: sound.folder)
        assertThrows("weights.bin is in no list") { try sound.checkFiles(artefact) }
    }

    func testPathsAndNamesThatLeaveTheBundle() {
        let long = String(repeating: "a/", count: 600) + "a"
        for path in ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\\b", "C:/a", "a\0", "\n", "../\u{301}x", long] {
            XCTAssertFalse(BundlePath.isInside(path), path)
        }
        for path in ["a", "a/b.f32", "a b/ü.txt", "..a", "a..b/c"] { XCTAssertTrue(BundlePath.isInside(path), path) }
        for name in ["", ".git", "-x", "a/b", "a b", "ü", "a\0", String(repeating: "x", count: 129)] {
            XCTAssertFalse(BundlePath.isName(name), name)
        }
        XCTAssertTrue(BundlePath.isName("tiny_2.f32-x"))
    }

    func testForeignTextIsShownAndNeverObeyed() {
        XCTAssertEqual(printable("a\u{1b}[31m\nb"), "a\\x1b[31m\\x0ab")
        XCTAssertEqual(printable("\u{202e}cod\u{200b}\u{e0041}"), "\\u202ecod\\u200b\\U000e0041")
        XCTAssertEqual(printable("Vögel 🐦"), "Vögel 🐦")
        let long = printable("expected " + String(repeating: "x", count: 5_000) + "; do this")
        XCTAssertEqual(long.unicodeScalars.count, 300)
        XCTAssertTrue(long.hasPrefix("expected") && long.hasSuffix("do this"))
        XCTAssertEqual(HearpackError.bundle("\u{1b}x").message, "\\x1bx")
    }

    func testDigestsOfTheStandard() {
        XCTAssertEqual(PortableSHA256.hex(Data()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(FileDigest.hex(Data("abc".utf8)), PortableSHA256.hex(Data("abc".utf8)))
        XCTAssertEqual(PortableSHA256.hex(Data("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        XCTAssertEqual(PortableSHA256.hex(Data(two.utf8)), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        XCTAssertEqual(
            PortableSHA256.hex(Data(repeating: 97, count: 1_000_000)),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    /// What was checked once is known by path, size, inode and time: any change makes another stamp.
    func testAStampChangesWithTheFiles() throws {
        let bundle = try bundle(try manifestText())
        let artefact = bundle.manifest.artefacts[0]
        XCTAssertNil(bundle.stamp(artefact), "the package is not there")
        let file = bundle.folder.appendingPathComponent(artefact.files[0].path)
        let folder = file.deletingLastPathComponent()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data("abc".utf8).write(to: file)
        let stamp = try XCTUnwrap(bundle.stamp(artefact))
        XCTAssertEqual(bundle.stamp(artefact), stamp)
        XCTAssertNoThrow(try bundle.checkFiles(artefact))
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: file.path)
        let touched = try XCTUnwrap(bundle.stamp(artefact))
        XCTAssertNotEqual(touched, stamp)
        try Data("abd".utf8).write(to: file, options: .atomic)
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: file.path)
        XCTAssertNotEqual(bundle.stamp(artefact), touched, "another file of the same size and time")
        try Data("x".utf8).write(to: folder.appendingPathComponent("more"))
        XCTAssertNil(bundle.stamp(artefact), "a file in no list")
        try FileManager.default.removeItem(at: file)
        XCTAssertNil(bundle.stamp(artefact))
    }
}
