import XCTest

@testable import HearpackKit

final class EngineTests: XCTestCase {
    func testCallPlanIsTheManifestsOrder() throws {
        let manifest = try manifest()
        XCTAssertEqual(
            CallPlan(GraphSignature(manifest), manifest.artefacts[0]).rows,
            [
                "| 1 | write | audio | [1, 4] | block |", "| 2 | write | h | [1, 2] | state h |", "| 3 | predict |  |  |  |",
                "| 4 | read | enhanced | [1, 4] | output enhanced |", "| 5 | read | h_out | [1, 2] | state h |",
            ])
    }

    func testHiddenStateIsNotWritten() throws {
        let text = String(decoding: try manifestText(), as: UTF8.self)
            .replacingOccurrences(of: #""state_mode":"explicit""#, with: #""state_mode":"mlstate""#)
            .replacingOccurrences(of: #""io":{}"#, with: #""io":{"audio":"x_1"}"#)
        let manifest = try Manifest.parse(Data(text.utf8), origin: "test")
        XCTAssertEqual(manifest.artefacts[0].stateMode, .mlstate)
        XCTAssertEqual(
            CallPlan(GraphSignature(manifest), manifest.artefacts[0]).steps.map(\.tensor), ["x_1", "", "enhanced"])
    }

    func testStridesBothWays() {
        // [2, 3] with rows padded to 4 and every second element: as Core ML may lay it out.
        let padded: [Float] = [1, -1, 2, -1, 3, -1, -1, -1, 4, -1, 5, -1, 6, -1, -1, -1]
        var dense = [Float](repeating: 0, count: 6)
        copyStrided(padded, shape: [2, 3], strides: [8, 2], to: &dense)
        XCTAssertEqual(dense, [1, 2, 3, 4, 5, 6])
        var back = [Float](repeating: -1, count: 16)
        copyStrided(dense, to: &back, shape: [2, 3], strides: [8, 2])
        XCTAssertEqual(back, padded)
        // [2, 1, 2, 2], first axis fastest.
        var cube = [Float](repeating: 0, count: 8)
        copyStrided([0, 1, 2, 3, 4, 5, 6, 7], shape: [2, 1, 2, 2], strides: [1, 9, 2, 4], to: &cube)
        XCTAssertEqual(cube, [0, 4, 2, 6, 1, 5, 3, 7])
        var scalar: [Float] = [0]
        copyStrided([9], shape: [], strides: [], to: &scalar)
        XCTAssertEqual(scalar, [9])
    }

    func testParityFiguresAndJudgement() throws {
        let reference = (0..<16_000).map { Float(sin(Double($0) * 0.05)) }
        var candidate = reference
        candidate[9_000] += 0.01
        let parity = try Parity.audio(reference[...], candidate[...], sampleRateHz: 16_000, floorDb: 80)
        XCTAssertEqual(parity.metrics["snr_db"] ?? 0, 10 * log10(8_000 / 1e-4), accuracy: 0.1)
        XCTAssertEqual(parity.firstBadFrame, 5, "9,000 lies in the frame from 8,000 to 9,600")
        candidate[0] = .nan
        let broken = try Parity.audio(reference[...], candidate[...], sampleRateHz: 16_000, floorDb: 80)
        XCTAssertEqual(broken.metrics["nan_count"], 1)
        XCTAssertEqual(broken.metrics["snr_db"], -200)
        let tolerances = try manifest().artefacts[0].tolerance
        XCTAssertEqual(try Parity.judge(["snr_db": 109], tolerances).map(\.passed), [false])
        XCTAssertEqual(try Parity.judge(["snr_db": 110], tolerances).map(\.passed), [true])
        assertThrows("tolerance: snr_db is not measured here; measured: nan_count") {
            _ = try Parity.judge(["nan_count": 0], tolerances)
        }
    }

    func testScores() throws {
        let reference: [Float] = [0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.5, 0.4, 0.3, 0.2, 0.195]
        var candidate = reference
        candidate[5] = 0.25  // changes the top five of window 0, whose 5th and 6th are clearly apart
        candidate[11] = 0.21  // of window 1, whose are not
        let parity = try Parity.scores(reference, candidate, labels: 6, ceiling: 0.1)
        XCTAssertEqual(parity.metrics["top5_agreement"], 0)
        XCTAssertEqual(parity.metrics["top5_clear_flips"], 1)
        XCTAssertEqual(parity.metrics["score_max_abs_error"] ?? 0, 0.15, accuracy: 1e-6)
        XCTAssertEqual(parity.firstBadWindow, 0)
        assertThrows("expected two tables") { _ = try Parity.scores([1], [1, 2], labels: 1, ceiling: 0) }
    }

    func testLedgerIsASumOfNamedParts() throws {
        let granted = CaptureFormat(rateHz: 48_000, channels: 1, blockFrames: 480)
        var figures = StreamFigures()
        (figures.waitP50Ms, figures.computeP50Ms, figures.prefillSamples) = (2, 0.5, 480)
        let ledger = LatencyLedger(
            manifest: try manifest(), granted: granted, figures: figures, resamplerInMs: 1.5, resamplerOutMs: 1.5,
            systemInputMs: 4, systemOutputMs: 6)
        XCTAssertEqual(
            ledger.parts,
            [
                .init("input_route", 4, .stated), .init("capture_block", 10, .exact), .init("resampler", 1.5, .exact),
                .init("ring_wait", 2, .measured, p95Ms: 0), .init("framing", 0.25, .exact), .init("model_delay", 0.375, .exact),
                .init("compute", 0.5, .measured, p95Ms: 0), .init("output_resampler", 1.5, .exact),
                .init("playout_prefill", 10, .exact), .init("output_route", 6, .stated),
            ])
        XCTAssertEqual(ledger.sum(.exact), 23.625)
        XCTAssertEqual(ledger.sum(.stated), 10)
        XCTAssertEqual(ledger.sum(.measured), 2.5)
        XCTAssertEqual(ledger.totalMs, 36.125)
        let listen = LatencyLedger(
            manifest: try windowed(hop: 2), granted: granted, figures: StreamFigures(), resamplerInMs: 0, systemInputMs: 0)
        XCTAssertEqual(
            listen.parts.map(\.name),
            ["input_route", "capture_block", "resampler", "ring_wait", "framing", "model_delay", "compute"])
        XCTAssertEqual(listen.totalMs, 10.5, "a block of 10 ms and a hop of 0.5")
    }

    func testQuantilesWithinFivePercent() {
        var histogram = DurationHistogram()
        XCTAssertEqual(histogram.quantileMs(0.5), 0)
        for ns in stride(from: 1_000, through: 100_000_000, by: 1_000) { histogram.add(Int64(ns)) }
        XCTAssertEqual(histogram.quantileMs(0.5), 50, accuracy: 2.5)
        XCTAssertEqual(histogram.quantileMs(0.95), 95, accuracy: 4.75)
        XCTAssertEqual(histogram.total, 100_000)
        histogram.reset()
        histogram.add(0)
        histogram.add(.max)
        XCTAssertEqual(histogram.total, 2)
    }
}
