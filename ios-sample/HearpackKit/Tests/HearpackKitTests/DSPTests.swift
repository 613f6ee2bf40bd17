import XCTest

@testable import HearpackKit

final class DSPTests: XCTestCase {
    private struct Golden: Decodable {
        struct Case: Decodable {
            let stage: DSPStage
            let constants: [String: Double]?
            let output: [Float]?
            let window_samples: Int?
            let limit: Int64?
            let energies: [Int64]?
            let opens: [Bool]?
            let delay_samples: Int?
        }
        let sample_rate_hz: Int
        let input: [Int]
        let cases: [Case]
    }

    /// In blocks of 7, in place.
    private func blocks(_ values: [Float], _ body: (SampleBlock) throws -> Void) rethrows -> [Float] {
        var out = values
        try out.withUnsafeMutableBufferPointer { all in
            for start in stride(from: 0, to: all.count, by: 7) {
                try body(SampleBlock(rebasing: all[start..<min(start + 7, all.count)]))
            }
        }
        return out
    }

    func testGoldenToTheBit() throws {
        let golden = try JSONDecoder().decode(Golden.self, from: try fixture("dsp/golden.json"))
        XCTAssertEqual(golden.cases.count, 16)
        let x = golden.input.map { Float(Double($0) / 8_388_608) }
        for example in golden.cases {
            let constants = example.constants ?? [:]
            switch example.stage {
            case .highpass(let cutoff):
                var filter = HighpassFilter(cutoffHz: cutoff, sampleRateHz: golden.sample_rate_hz)
                XCTAssertEqual([filter.b, filter.a1, filter.a2], [constants["b"], constants["a1"], constants["a2"]])
                XCTAssertEqual(bits(blocks(x) { filter.process($0) }), bits(try XCTUnwrap(example.output)))
            case .gain(let db):
                let gain = FixedGain(db: db)
                XCTAssertEqual(gain.factor, constants["factor"])
                XCTAssertEqual(bits(blocks(x) { gain.process($0) }), bits(try XCTUnwrap(example.output)))
            case .gate(let threshold, let hold):
                let size = try XCTUnwrap(example.window_samples)
                var gate = try WindowGate(thresholdDbfs: threshold, holdWindows: hold, windowSamples: size)
                XCTAssertEqual(gate.limit, example.limit)
                let windows = stride(from: 0, to: x.count, by: size).map { Array(x[$0..<$0 + size]) }
                XCTAssertEqual(windows.map { $0.withUnsafeBufferPointer(energy) }, example.energies)
                XCTAssertEqual(windows.map { window in window.withUnsafeBufferPointer { gate.opens($0) } }, example.opens)
            case .wetDry(let limit):
                var mix = WetDryMix(
                    attenuationLimitDb: limit, delaySamples: try XCTUnwrap(example.delay_samples), room: 16)
                XCTAssertEqual(mix.dry, constants["dry"])
                var at = 0
                let out = try blocks(Array(x.reversed())) { block in
                    x[at..<at + block.count].withUnsafeBufferPointer { mix.feed($0) }
                    at += block.count
                    try mix.process(block)
                }
                XCTAssertEqual(bits(out), bits(try XCTUnwrap(example.output)))
            case .limiter(let ceiling, let release):
                var limiter = PeakLimiter(ceilingDbfs: ceiling, releaseMs: release, sampleRateHz: golden.sample_rate_hz)
                XCTAssertEqual([limiter.ceiling, limiter.release], [constants["ceiling"], constants["release"]])
                XCTAssertEqual(bits(blocks(x) { limiter.process($0) }), bits(try XCTUnwrap(example.output)))
            }
        }
    }

    func testMeter() {
        var meter = InputMeter()
        [Float](repeating: 0.5, count: 100).withUnsafeBufferPointer { meter.push($0) }
        let level = meter.read()
        XCTAssertEqual(level.peak, 0.5)
        XCTAssertEqual(level.rmsDbfs, -6.02, accuracy: 0.01)
        XCTAssertEqual(meter.read(), InputLevel(peak: 0, rmsDbfs: -.infinity), "a reading begins anew")
    }

    func testGateSparesTheEngine() throws {
        let manifest = try windowed(hop: 4)
        let engine = FakeEngine(manifest) { _, _ in ([0.9, 0.1], []) }
        let gated = GatedEngine(engine, try WindowGate(thresholdDbfs: -40, holdWindows: 0, windowSamples: 4))
        let loop = try StreamLoop(manifest, gated)
        var seen: [[Float]] = []
        try [1, 1, 1, 1, 0, 0, 0, 0].withUnsafeBufferPointer { try loop.push($0) { _, scores in seen.append(Array(scores)) } }
        XCTAssertEqual(seen, [[0.9, 0.1], [0, 0]])
        XCTAssertEqual(engine.blocks.count, 1)
        XCTAssertEqual(gated.skipped, 1)
    }

    func testStagesAreRefusedWhereTheyWouldChangeWhatIsHeard() throws {
        func with(_ dsp: [[String: Any]]) -> () throws -> Void {
            { _ = try manifest { $0["dsp"] = dsp } }
        }
        assertThrows("does not know the stage reverb", with([["kind": "reverb"]]))
        assertThrows(
            "has fields this app does not know: knee_db",
            with([["kind": "limiter", "ceiling_dbfs": -1, "release_ms": 50, "knee_db": 3]]))
        assertThrows("cutoff_hz of highpass must be 1.0 to 20000.0, got 0.5", with([["kind": "highpass", "cutoff_hz": 0.5]]))
        assertThrows("in this order", with([["kind": "gain", "gain_db": 1], ["kind": "highpass", "cutoff_hz": 80]]))
        assertThrows("a gate is for windowed classifiers", with([["kind": "gate", "threshold_dbfs": -50]]))
        assertThrows("above 0.45 of the rate", with([["kind": "highpass", "cutoff_hz": 7_300]]))
        XCTAssertEqual(try manifest { $0["dsp"] = [["kind": "gain", "gain_db": 6]] }.dsp, [.gain(db: 6)])
    }

    func testWetDryWantsItsInputFirst() throws {
        var mix = WetDryMix(attenuationLimitDb: 12, delaySamples: 2, room: 4)
        var block: [Float] = [1, 1, 1]
        assertThrows("only 2 of input were fed") { try block.withUnsafeMutableBufferPointer { try mix.process($0) } }
    }
}
