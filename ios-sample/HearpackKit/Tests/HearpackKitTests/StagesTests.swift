import XCTest

@testable import HearpackKit

/// Several nets on one stream, against what Python's streaming/core/stages.py gives: every call, bit and event.
final class StagesTests: XCTestCase {
    private struct Golden: Decodable {
        struct Fields: Decodable {
            let task: String
            let rate_hz: Int
            let samples: Int
            let hop: Int
            let hears: Int?
            let gate: [Int]?
        }
        struct Case: Decodable {
            let name: String
            let rate_hz: Int
            let nets: [Fields]
            let calls: [Int]
            let in_samples: [Int]
            let order: [Int]
            let audio: [String: [UInt32]]
            let events: [[Double?]]
        }
        let input: [Float]
        let cases: [Case]
    }

    private func golden() throws -> Golden { try JSONDecoder().decode(Golden.self, from: try fixture("stages/golden.json")) }

    private func net(_ fields: Golden.Fields) throws -> StageNet {
        let enhances = fields.task == "enhancer"
        let (samples, rate) = (fields.samples, fields.rate_hz)
        let text = try manifestText { manifest in
            manifest["task"] = fields.task
            manifest["geometry"] = [
                "sample_rate_hz": rate, "channels": 1, "window_samples": samples, "hop_samples": fields.hop,
                "delay_samples": enhances ? samples : 0,
            ]
            manifest["buffer"] = ["kind": enhances ? "step" : "window", "hops_per_call": 1, "samples": samples]
            func tensor(_ name: String, _ width: Int) -> [[String: Any]] {
                [["name": name, "shape": [1, width], "dtype": "float32", "range": [-1, 1], "meaning": ""]]
            }
            manifest["inputs"] = tensor("audio", samples)
            manifest["outputs"] = enhances ? tensor("enhanced", samples) : tensor("scores", 2)
            manifest["states"] =
                enhances ? [["in": "h", "out": "h_out", "shape": [1, samples], "dtype": "float32", "reset": "zeros"]] : []
            if !enhances {
                manifest["decisions"] = [
                    "window_hop_samples": fields.hop, "smoothing_windows": 2, "on_threshold": 0.5, "off_threshold": 0.3,
                    "min_on_ms": 0.0, "min_off_ms": 0.0, "per_label": [String: Any](),
                ]
            }
        }
        let bundle = try bundle(text)
        let engine = FakeEngine(bundle.manifest) { block, state in
            enhances ? (state.tensors[0], block) : ([block[0], block[block.count - 1]], [])
        }
        return StageNet(bundle, engine, hears: fields.hears, gate: fields.gate.map { StageGate(stage: $0[0], label: $0[1]) })
    }

    /// Sizes that add up to `total`: all at once, or ragged from a seed, empty ones among them.
    private func partition(_ total: Int, _ seed: UInt32) -> [Int] {
        if seed == 0 { return [total] }
        var (state, left) = (seed, total)
        var sizes: [Int] = []
        while left > 0 {
            state = state &* 1_103_515_245 &+ 12_345
            sizes.append(min(left, Int(state >> 16) % 40))
            left -= sizes[sizes.count - 1]
        }
        return sizes
    }

    func testEveryPartitionGivesPythonsCallsSoundAndEvents() throws {
        let golden = try golden()
        XCTAssertGreaterThanOrEqual(golden.cases.count, 5)
        let input = golden.input.map { $0 / 32_768 }
        for example in golden.cases {
            let stages = try Stages(try example.nets.map(net), rateHz: example.rate_hz)
            for seed in 0...4 as ClosedRange<UInt32> {
                var order: [Int] = []
                var audio = example.nets.map { _ in [UInt32]() }
                var events: [[Double?]] = []
                stages.onCall = { stage, _ in order.append(stage) }
                stages.onAudio = { stage, _, samples in audio[stage] += samples.map(\.bitPattern) }
                stages.onEvent = { stage, e in
                    let offset: Double? = e.offsetSample.map { Double($0) }
                    let emitted = Double(e.emittedAtSample ?? -1)
                    events.append([Double(stage), Double(e.index), Double(e.onsetSample), offset, e.confidence, emitted])
                }
                try stages.reset()
                var at = 0
                for size in partition(input.count, seed) {
                    try input.withUnsafeBufferPointer { try stages.push(UnsafeBufferPointer(rebasing: $0[at..<at + size])) }
                    at += size
                }
                try stages.flush()
                let name = "\(example.name), seed \(seed)"
                XCTAssertEqual(order, example.order, name)
                XCTAssertEqual(events, example.events, name)
                for stage in example.nets.indices {
                    XCTAssertEqual(audio[stage], example.audio["\(stage)"] ?? [], "\(name): \(stage)")
                }
                XCTAssertEqual(example.nets.indices.map(stages.calls), example.calls, name)
                XCTAssertEqual(example.nets.indices.map(stages.inSamples), example.in_samples, name)
            }
        }
    }

    func testAFailedEngineEndsTheStreamUntilAReset() throws {
        let example = try golden().cases[0]
        let input = try golden().input.map { $0 / 32_768 }
        let nets = try example.nets.map(net)
        let engine = try XCTUnwrap(nets[1].engine as? FakeEngine)
        engine.failAtCall = 2
        let stages = try Stages(nets, rateHz: 16_000)
        try input.withUnsafeBufferPointer { all in
            assertThrows("the engine failed") { try stages.push(all) }
            assertThrows("reset()") { try stages.push(all) }
            engine.failAtCall = nil
            var events = 0
            stages.onEvent = { _, _ in events += 1 }
            try stages.reset()
            try stages.push(all)
            try stages.flush()
            XCTAssertEqual(events, example.events.count)
            assertThrows("reset()") { try stages.push(all) }
        }
    }

    func testWhatDoesNotFitIsNamed() throws {
        let golden = try golden()
        let enhancer = try net(golden.cases[0].nets[0])
        let classifier = try net(golden.cases[0].nets[1])
        func with(_ first: StageNet, hears: Int? = nil, gate: StageGate? = nil) -> [StageNet] {
            [first, StageNet(enhancer.bundle, enhancer.engine, hears: hears, gate: gate)]
        }
        assertThrows("at least one net") { _ = try Stages([], rateHz: 16_000) }
        for wrong in [
            with(classifier, hears: 0), with(enhancer, hears: 1), with(enhancer, gate: StageGate(stage: 0, label: 0)),
            with(classifier, gate: StageGate(stage: 1, label: 0)), with(classifier, gate: StageGate(stage: 0, label: 2)),
        ] {
            assertThrows("before it only") { _ = try Stages(wrong, rateHz: 16_000) }
        }
    }
}
