import Foundation
import XCTest

@testable import HearpackKit

/// The inference thread in virtual time: a microphone that delivers while the thread sleeps.
final class ThreadTests: XCTestCase {
    private func run(_ world: FakePhone, _ text: Data) throws -> StreamFigures {
        let bundle = try bundle(text)
        let worker = try StreamWorker(bundle, FakeEngine(echo: bundle.manifest), feed: world.feed, clock: world.clock)
        let last = Locked(StreamFigures())
        let thread = InferenceThread(
            worker, sleeper: world, onFigures: { last.value = $0 }, onFailure: { XCTFail($0.message) })
        world.over.wait()
        thread.stop()
        return last.value
    }

    func testNoMoreThan150WakeUpsASecond() throws {
        for (ms, block, lump) in [
            (8, 256, 256), (8, 96, 96), (8, 960, 960), (2, 96, 96), (16, 192, 192), (8, 192, 1_920), (8, 4_800, 4_800),
        ] {
            let world = FakePhone(rateHz: 48_000, block: block, lump: lump, seconds: 60)
            let figures = try run(world, try stepText(ms: ms))
            let most = world.wakeUps.values.max() ?? 0
            XCTAssertLessThanOrEqual(most, 150, "hop \(ms) ms, blocks \(block), lumps \(lump)")
            XCTAssertGreaterThan(figures.calls, 59_000 / ms)
            XCTAssertEqual(figures.lostSamples, 0)
            XCTAssertEqual(figures.captureGaps, 0)
            XCTAssertLessThanOrEqual(figures.waitP50Ms, ms < 8 ? 7.5 : 1.1, "hop \(ms) ms, blocks \(block), lumps \(lump)")
        }
    }

    /// A call has the microphone for a minute: the thread all but rests.
    func testAnInterruptedStreamSleeps() throws {
        let world = FakePhone(rateHz: 48_000, block: 256, lump: 256, seconds: 90)
        world.silent = 10_000_000_000..<70_000_000_000
        _ = try run(world, try stepText(ms: 8))
        for second in 12..<69 as Range<Int64> { XCTAssertLessThanOrEqual(world.wakeUps[second] ?? 0, 21) }
        XCTAssertGreaterThan(world.wakeUps[80] ?? 0, 60, "and then it works again")
    }

    /// Stop works on what was captured and closes what is on: no event stays open, none is missing from the trace.
    func testStopFinishesTheStream() throws {
        let clock = FakeClock()
        let bundle = try classifier()
        let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
        feed.rateHz = 16_000
        let recorder = TraceRecorder(exactRows: 100)
        let engine = FakeEngine(bundle.manifest) { block, _ in ([block[0], 0.1], [0, 0]) }
        let worker = try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock)
        let heard = Locked<[SoundEvent]>([])
        worker.onEvent = { heard.value.append($0) }
        let on = expectation(description: "the sound is on")
        on.assertForOverFulfill = false
        let thread = InferenceThread(
            worker, figuresEvery: 0, onFigures: { if $0.calls >= 2 { on.fulfill() } }, onFailure: { XCTFail($0.message) })
        feed.deliver([0.75, 0, 0, 0, 0.75, 0, 0, 0], 8)
        wait(for: [on], timeout: 20)
        thread.stop()
        XCTAssertEqual(heard.value.map(\.offsetSample), [nil, 4])
        XCTAssertEqual(try makeTrace(recorder, bundle.manifest, clock).events?.map(\.offsetSample), [4])
    }

    /// After the audio was opened again, times count on from the stream's begin, and what was on is closed.
    func testEventTimesGoOnAfterAReopening() throws {
        let clock = SetClock()
        let bundle = try classifier()
        let recorder = TraceRecorder(exactRows: 100)
        var heard: [SoundEvent] = []
        for stretch in 0..<2 {
            let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
            feed.rateHz = 16_000
            let engine = FakeEngine(bundle.manifest) { block, _ in ([block[0], 0.1], [0, 0]) }
            let worker = try StreamWorker(bundle, engine, feed: feed, recorder: recorder, clock: clock)
            worker.onEvent = { heard.append($0) }
            clock.ns = 5_000_000_000 + Int64(stretch) * 2_000_000_000
            feed.deliver([0.75, 0, 0, 0, 0.75, 0, 0, 0], 8)
            try worker.pump()
            if stretch == 0 { try worker.reset() } else { try worker.finish() }
        }
        XCTAssertEqual(heard.map(\.onsetSample), [0, 0, 32_000, 32_000])
        XCTAssertEqual(heard.map(\.offsetSample), [nil, 4, nil, 32_004])
        let spans = heard.map { eventSpan($0, hopSamples: 4, firstEnd: 4) }
        XCTAssertEqual(spans.map(\.begin), [0, 0, 32_000, 32_000])
        XCTAssertEqual(try makeTrace(recorder, bundle.manifest, clock).events?.map(\.onsetSample), [0, 32_000])
    }

    /// The last seconds, aligned, whatever the blocks: what was heard before them is gone.
    func testTheRecordingKeepsTheLastSeconds() throws {
        let manifest = try manifest()  // 16 kHz, delay 6
        for block in [1, 7, 160, 1_000] {
            let recording = ABRecording(manifest, seconds: 2)
            let wave = (0..<80_000).map { Float($0) }
            let late = [Float](repeating: -1, count: 6) + wave
            for start in stride(from: 0, to: wave.count, by: block) {
                let end = min(start + block, wave.count)
                wave[start..<end].withUnsafeBufferPointer { recording.addOriginal($0) }
                late[start..<end].withUnsafeBufferPointer { recording.addEnhanced($0) }
            }
            let clip = recording.clip()
            XCTAssertEqual(recording.count, 32_000)
            XCTAssertEqual(clip.original, Array(wave[80_000 - 6 - 32_000..<80_000 - 6]))
            XCTAssertEqual(clip.enhanced, clip.original)
            recording.reset()
            XCTAssertEqual(recording.count, 0)
            XCTAssertEqual(recording.clip().original, [])
        }
    }

    func testTheWorkerRecordsBothSides() throws {
        let clock = FakeClock()
        let bundle = try bundle(try manifestText())
        let feed = CaptureFeed(ringSamples: 64, clock: clock)
        feed.rateHz = 16_000
        let recording = ABRecording(bundle.manifest)
        let engine = FakeEngine(bundle.manifest) { block, state in (block.map { $0 / 2 }, state.tensors[0]) }
        let worker = try StreamWorker(bundle, engine, feed: feed, recording: recording, clock: clock)
        feed.deliver((0..<16).map { Float($0) / 16 }, 16)
        try worker.pump()
        XCTAssertEqual(recording.clip().original, (0..<10).map { Float($0) / 16 })
        XCTAssertEqual(recording.clip().enhanced, (6..<16).map { Float($0) / 32 })
    }

    private func classifier() throws -> ModelBundle {
        try bundle(
            try manifestText { fields in
                fields["task"] = "classifier"
                fields["outputs"] = [["name": "scores", "shape": [1, 2], "dtype": "float32", "range": [0, 1], "meaning": ""]]
                fields["decisions"] = [
                    "window_hop_samples": 4, "smoothing_windows": 1, "on_threshold": 0.5, "off_threshold": 0.3,
                    "min_on_ms": 0.0, "min_off_ms": 0.0,
                ]
            })
    }
}
