import Foundation
import XCTest

@testable import HearpackKit

/// That the figures are what they say: gaps, waits, lumps, cold starts, rows of long traces.
final class FiguresTests: XCTestCase {
    private static let second: Int64 = 1_000_000_000

    private func callback(_ timeNs: Int64, _ frames: Int, rateHz: Int32 = 48_000, end: Int = 0) -> CallbackRecord {
        CallbackRecord(
            timeNs: timeNs, endNs: timeNs + 1, frames: Int64(frames), rateHz: rateHz, hardwareTimeNs: -1, hardwareFrame: -1,
            endPosition: end)
    }

    // MARK: The gap detector

    /// An hour of callbacks in lumps, from a microphone whose clock is off; what is lost is given by second.
    private func gaps(ppm: Double, lump: Int, block: Int, lost: [Int: Int] = [:]) -> [Int] {
        var detector = GapDetector(rateHz: 48_000, bufferFrames: GapDetector.buffer(block: block, rateHz: 48_000))
        var found: [Int] = []
        var frames = 0
        var left = lost
        let rate = 48_000 * (1 + ppm * 1e-6)
        while frames < 3_600 * 48_000 {
            let second = frames / 48_000
            let hole = left.removeValue(forKey: second) ?? 0
            frames += lump + hole
            let time = Int64(Double(frames) / rate * 1e9)
            var brought = 0
            while brought < lump {
                let count = min(block, lump - brought)
                let missing = detector.read(time + Int64(brought), count)
                if missing > 0 { found.append(missing) }
                brought += count
            }
        }
        return found
    }

    func testNoFalseGapInAnHourOfDrift() {
        for ppm in [-200.0, -50, 0, 50, 200] {
            for (lump, block) in [(96, 96), (240, 240), (960, 192), (1_024, 1_024), (1_922, 1_922), (4_800, 4_800)] {
                XCTAssertEqual(gaps(ppm: ppm, lump: lump, block: block), [], "\(ppm) ppm, lumps of \(lump)")
            }
        }
    }

    func testGapsAreFoundWhateverTheDrift() {
        for ppm in [-200.0, 0, 200] {
            let found = gaps(ppm: ppm, lump: 480, block: 480, lost: [600: 24_000, 1_800: 9_600, 3_000: 4_800])
            XCTAssertEqual(found.count, 3, "\(ppm) ppm")
            for (missing, lost) in zip(found, [24_000, 9_600, 4_800]) {
                XCTAssertEqual(Double(missing), Double(lost), accuracy: 500, "\(ppm) ppm")
            }
        }
    }

    func testWhatIsOnlyLateIsNoGap() {
        var detector = GapDetector(rateHz: 48_000, bufferFrames: 2_400)
        for turn in 0..<1_000 {
            let late: Int64 = turn == 500 ? 400_000_000 : 0  // then all of it comes at once
            let due = Int64(turn) * 10_000_000
            XCTAssertEqual(detector.read(max(due, turn > 500 && turn < 540 ? 5_400_000_000 : due) + late, 480), 0)
        }
    }

    // MARK: How capture comes

    func testLumpsAndJitter() {
        var meter = ArrivalMeter()
        // 20 ms lumps of five callbacks each, every fourth 4 ms late.
        for turn in 0..<20 {
            let time = Int64(turn) * 20_000_000 + (turn % 4 == 3 ? 4_000_000 : 0)
            for part in 0..<5 { meter.add(callback(time + Int64(part) * 10_000, 192)) }
        }
        XCTAssertEqual(meter.lumpFrames, 960)
        XCTAssertEqual(meter.jitter, 0.002, accuracy: 1e-6, "rms of 0, 0, 0 and 4 ms")
        for turn in 0..<70 { meter.add(callback(500_000_000 + Int64(turn) * 4_000_000, 192)) }
        XCTAssertEqual(meter.lumpFrames, 192, "of the last 64")
    }

    func testSleepsUntilTheMissingIsExpected() {
        var meter = ArrivalMeter()
        XCTAssertEqual(meter.pauseNs(1_000, rateHz: 48_000, now: 0), 5_000_000, "nothing is known yet")
        for turn in 0...10 { meter.add(callback(Int64(turn) * 10_000_000, 480)) }
        XCTAssertEqual(meter.pauseNs(480, rateHz: 48_000, now: 100_000_000), 10_250_000)
        XCTAssertEqual(meter.pauseNs(481, rateHz: 48_000, now: 100_000_000), 20_250_000)
        XCTAssertEqual(meter.pauseNs(1, rateHz: 48_000, now: 104_000_000), 6_250_000)
        XCTAssertEqual(meter.pauseNs(1, rateHz: 48_000, now: 120_000_000), 5_000_000, "half of how late it is")
        XCTAssertEqual(meter.pauseNs(1, rateHz: 48_000, now: 900_000_000), 50_000_000)
    }

    /// The pump is kept from running: the wait is from the callback that completed the buffer, whatever came later.
    func testRingWaitIsTheDelayOfTheCall() throws {
        let clock = SetClock()
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
        feed.rateHz = 16_000
        let recorder = TraceRecorder(exactRows: 100)
        let worker = try StreamWorker(bundle, FakeEngine(echo: bundle.manifest), feed: feed, recorder: recorder, clock: clock)
        for turn in 0..<50 {
            clock.ns = Int64(turn) * 10_000_000
            feed.deliver([1, 2], 2)
            clock.ns += 250_000
            feed.deliver([3, 4], 2)  // completes the buffer
            clock.ns += 5_000_000
            try worker.pump()
        }
        var figures = worker.figures()
        XCTAssertEqual(figures.calls, 50)
        XCTAssertEqual(figures.waitP50Ms, 5, accuracy: 0.25)
        XCTAssertEqual(figures.waitP95Ms, 5, accuracy: 0.25)
        // Three buffers in one pump: 20, 10 and 0 ms.
        for turn in 0..<3 {
            clock.ns = Self.second + Int64(turn) * 10_000_000
            feed.deliver([1, 2, 3, 4], 4)
        }
        try worker.pump()
        figures = worker.figures()
        XCTAssertEqual(figures.calls, 53)
        let trace = try makeTrace(recorder, bundle.manifest, clock)
        XCTAssertEqual(trace.inferences.suffix(3).map(\.waitingSamples), [8, 4, 0])
    }

    func testLedgerShowsWhatCameAndBothQuantiles() throws {
        var figures = StreamFigures()
        (figures.computeP50Ms, figures.computeP95Ms, figures.waitP50Ms, figures.waitP95Ms) = (1, 2, 4, 8)
        func ledger() throws -> LatencyLedger {
            LatencyLedger(
                manifest: try manifest(), granted: CaptureFormat(rateHz: 48_000, channels: 1, blockFrames: 240),
                figures: figures, resamplerInMs: 0.5, systemInputMs: 6)
        }
        let before = try XCTUnwrap(ledger().parts.first { $0.name == "capture_block" })
        XCTAssertEqual([before.ms, before.p95Ms], [5, 5])
        XCTAssertEqual(before.source, .exact)
        figures.lumpFrames = 4_800  // a tap: the session's I/O buffer is not what comes
        let after = try XCTUnwrap(ledger().parts.first { $0.name == "capture_block" })
        XCTAssertEqual(after.ms, 100)
        XCTAssertEqual(after.source, .measured)
        XCTAssertEqual(try ledger().totalP95Ms - ledger().totalMs, 1 + 4, accuracy: 1e-9)
    }

    // MARK: Traces

    /// Two streams of one process: the first call is the warm-up's in both traces, and the rows are there.
    func testTheFirstCallIsKeptOverStreams() throws {
        let clock = FakeClock()
        let bundle = try bundle(try manifestText())
        var recorder = TraceRecorder(exactRows: 100)
        recorder.coldStart.modelLoadEndNs = 5
        for call in 0..<3 {
            recorder.inference(
                DeviceTrace.Inference(beginNs: 10 + Int64(call) * 10, endNs: 15 + Int64(call) * 10, endSample: 0, warmUp: true))
        }
        var traces: [DeviceTrace] = []
        for _ in 0..<2 {
            recorder = recorder.next()
            let feed = CaptureFeed(ringSamples: 64, clock: clock)
            feed.rateHz = 16_000
            let worker = try StreamWorker(
                bundle, FakeEngine(echo: bundle.manifest), feed: feed, recorder: recorder, clock: clock)
            feed.deliver([1, 2, 3, 4, 5, 6, 7, 8], 8)
            try worker.pump()
            traces.append(try makeTrace(recorder, bundle.manifest, clock))
        }
        for trace in traces {
            XCTAssertEqual(trace.coldStart.firstCallBeginNs, 10)
            XCTAssertEqual(trace.coldStart.firstCallEndNs, 15)
            XCTAssertEqual(trace.coldStart.warmUpCalls, 3)
            XCTAssertEqual(trace.inferences.map(\.warmUp), [true, true, true, nil, nil])
            XCTAssertEqual(trace.end.inferences, 5)
        }
        XCTAssertEqual(traces[0].coldStart.firstDecisionNs, traces[1].coldStart.firstDecisionNs, "of the process")
        XCTAssertEqual(traces[1].callbacks.count, 1, "of its own stream")
    }

    /// Hours of callbacks: the ends are as they came, what is between is summed, nothing is missing.
    func testALongTraceIsWhole() throws {
        let recorder = TraceRecorder(exactRows: 200)
        let (count, rateChange) = (1_000_000, 600_000)
        for turn in 0..<count {
            recorder.callback(callback(Int64(turn) * 1_000, 96, rateHz: turn < rateChange ? 48_000 : 16_000))
            recorder.inference(
                DeviceTrace.Inference(beginNs: Int64(turn) * 1_000, endNs: Int64(turn) * 1_000 + 10, endSample: turn))
        }
        let trace = try makeTrace(recorder, try manifest(), FakeClock())
        XCTAssertEqual(trace.end.callbacks, count)
        XCTAssertEqual(trace.end.inferences, count)
        XCTAssertNil(trace.end.truncatedAtNs)
        XCTAssertLessThanOrEqual(trace.callbacks.count, 200 + 4_096)
        XCTAssertEqual(trace.callbacks.map { $0.count ?? 1 }.reduce(0, +), count)
        XCTAssertEqual(trace.callbacks.map(\.frames).reduce(0, +), 96 * count)
        XCTAssertEqual(trace.callbacks.filter { $0.rateHz == 48_000 }.map(\.frames).reduce(0, +), 96 * rateChange)
        XCTAssertEqual(trace.inferences.map { $0.busyNs ?? $0.endNs - $0.beginNs }.reduce(0, +), 10 * Int64(count))
        XCTAssertEqual(Set(trace.inferences.map { $0.longestNs ?? 10 }), [10])
        XCTAssertTrue(trace.callbacks.prefix(100).allSatisfy { $0.count == nil })
        XCTAssertTrue(trace.callbacks.suffix(100).allSatisfy { $0.count == nil })
        XCTAssertEqual(trace.callbacks.last?.timeNs, Int64(count - 1) * 1_000)
        let times = trace.callbacks.map(\.timeNs)
        XCTAssertEqual(times, times.sorted())
        for row in trace.callbacks where row.count != nil {
            XCTAssertEqual(row.lastTimeNs, row.timeNs + Int64((row.count ?? 1) - 1) * 1_000)
            XCTAssertNil(row.hardwareTimeNs)
        }
        XCTAssertEqual(try readTrace(try trace.json()), trace)
    }

    func testWhatFindsNoRoomIsSaid() throws {
        let recorder = TraceRecorder(exactRows: 10)
        recorder.callback(callback(1, 96))
        recorder.inference(DeviceTrace.Inference(beginNs: 1, endNs: 2, endSample: 0))
        for turn in 0..<2_010 { recorder.gap(.reset, samples: 0, rateHz: 48_000, policy: "none", timeNs: Int64(turn)) }
        let trace = try makeTrace(recorder, try manifest(), FakeClock())
        XCTAssertEqual(trace.gaps.count, 2_000)
        XCTAssertEqual(trace.end.truncatedAtNs, 2_000)
    }
}
