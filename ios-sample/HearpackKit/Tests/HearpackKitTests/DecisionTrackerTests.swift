import XCTest

@testable import HearpackKit

final class DecisionTrackerTests: XCTestCase {
    /// Scores of label 0 in windows that end at 4, 6, 8 …; label 1 stays silent. Rate 1,000 Hz: a ms is a sample.
    private func events(_ scores: [Float], _ changes: [String: Any] = [:]) throws -> [SoundEvent] {
        guard let parameters = try windowed(hop: 2, decisions: changes).decisions else { return [] }
        let decisions = try DecisionTracker(parameters, labels: ["dog", "cat"], sampleRateHz: 1_000)
        var events: [SoundEvent] = []
        for (index, score) in scores.enumerated() {
            try [score, 0].withUnsafeBufferPointer {
                try decisions.push($0, windowEndSample: 4 + 2 * index) { events.append($0) }
            }
        }
        decisions.flush(endSample: 4 + 2 * scores.count) { events.append($0) }
        return events
    }

    private func event(_ onset: Int, _ offset: Int?, _ confidence: Double, at: Int) -> SoundEvent {
        SoundEvent(label: "dog", index: 0, onsetSample: onset, offsetSample: offset, confidence: confidence, emittedAtSample: at)
    }

    func testOnAndOffWithHysteresis() throws {
        XCTAssertEqual(
            try events([0.1, 0.5, 0.75, 0.4, 0.25, 0.1]),
            [event(4, nil, 0.5, at: 6), event(4, 8, 0.75, at: 12)], "0.4 stays on, 0.25 is under the off threshold")
    }

    func testMinimumDurations() throws {
        XCTAssertEqual(try events([0.5, 0.1, 0.1], ["min_on_ms": 4.0]), [], "one window is 2 ms")
        XCTAssertEqual(
            try events([0.5, 0.75, 0.1, 0.1, 0.1], ["min_on_ms": 4.0, "min_off_ms": 4.0]),
            [event(2, nil, 0.75, at: 6), event(2, 4, 0.75, at: 10)])
    }

    func testSmoothingAndFlush() throws {
        XCTAssertEqual(
            try events([0.25, 0.75, 1], ["smoothing_windows": 2]),
            [event(4, nil, 0.5, at: 6), event(4, 6, 0.875, at: 10)], "closed by the flush")
    }

    func testNaNEndsARun() throws {
        XCTAssertEqual(try events([0.5, .nan, 0.5, 0.1], ["min_on_ms": 4.0]), [])
    }

    func testPerLabelOverrides() throws {
        XCTAssertEqual(try events([0.5, 0.5], ["per_label": ["dog": ["on_threshold": 0.6]]]), [])
    }

    func testBadInput() throws {
        assertThrows("off_threshold 0.3 is above on_threshold 0.2") { _ = try events([], ["on_threshold": 0.2]) }
        assertThrows("the latter at most 10000, got 2 and 0") { _ = try events([], ["smoothing_windows": 0]) }
        assertThrows("the latter at most 10000") { _ = try events([], ["smoothing_windows": 1_000_000_000_000]) }
        assertThrows("durations 0 to 3600000 ms") { _ = try events([], ["min_on_ms": 1e300]) }
        assertThrows("decisions.on_treshold: unknown key; known: window_hop_samples") {
            _ = try events([], ["on_treshold": 0.1])
        }
        assertThrows("decisions.per_label.dog.min_on: unknown key") {
            _ = try events([], ["per_label": ["dog": ["min_on": 1]]])
        }
        assertThrows("per_label names cow, which is no label") { _ = try events([], ["per_label": ["cow": [String: Any]()]]) }
        let parameters = try XCTUnwrap(try windowed(hop: 2).decisions)
        let decisions = try DecisionTracker(parameters, labels: ["dog", "cat"], sampleRateHz: 1_000)
        assertThrows("expected 2 scores, got 1") {
            try [1].withUnsafeBufferPointer { try decisions.push($0, windowEndSample: 4) { _ in } }
        }
        try [0, 0].withUnsafeBufferPointer { try decisions.push($0, windowEndSample: 4) { _ in } }
        assertThrows("cannot follow one that ends at 4") {
            try [0, 0].withUnsafeBufferPointer { try decisions.push($0, windowEndSample: 4) { _ in } }
        }
    }

    func testTimesForPeople() {
        func span(_ onset: Int, _ offset: Int?) -> [Int?] {
            let event = SoundEvent(label: "dog", index: 0, onsetSample: onset, offsetSample: offset, confidence: 1)
            let found = eventSpan(event, hopSamples: 500, firstEnd: 1_000)
            return [found.begin, found.end]
        }
        XCTAssertEqual(span(1_000, 1_000), [1_000, 1_500])  // one window lasts a hop
        XCTAssertEqual(span(500, 3_000), [0, 3_500])  // on in the first window
        XCTAssertEqual(span(1_200, nil), [1_200, nil])
    }
}
