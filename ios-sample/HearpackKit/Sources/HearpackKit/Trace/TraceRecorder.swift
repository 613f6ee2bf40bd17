import Foundation

/// Collects a device trace while a stream runs, on the inference thread; memory is taken once, at init.
///
/// A trace never ends before its stream: of callbacks and calls the first and the last are kept as they are, and those
/// between are summed in rows. Of what comes rarely, 2,000 of a kind fit; `end.truncated_at_ns` says when one did not.
public final class TraceRecorder {
    private static let most = 2_000

    public var coldStart: DeviceTrace.ColdStart

    /// When the stream's first sample was captured; set once, by the first stretch.
    public private(set) var originNs: Int64?

    private let exactRows: Int
    private var warmUps: [DeviceTrace.Inference]
    private var callbacks: TraceRows<CallbackRecord>
    private var inferences: TraceRows<DeviceTrace.Inference>
    private var gaps: [DeviceTrace.Gap] = []
    private var thermal: [DeviceTrace.Thermal] = []
    private var routes: [DeviceTrace.Route] = []
    private var gains: [DeviceTrace.Gain] = []
    private var computeUnits: [DeviceTrace.ComputeUnit] = []
    private var events: [DeviceTrace.Event] = []
    private var truncatedAtNs: Int64?

    /// - Parameters:
    ///   - exactRows: callbacks, and calls, that are kept as they are: half of them at the beginning, half at the end.
    ///   - coldStart: what is known of the process's start by now.
    public init(exactRows: Int = 40_000, coldStart: DeviceTrace.ColdStart = DeviceTrace.ColdStart()) {
        self.exactRows = exactRows
        self.coldStart = coldStart
        warmUps = []
        callbacks = TraceRows(max(1, exactRows / 2))
        inferences = TraceRows(max(1, exactRows / 2))
        gaps.reserveCapacity(256)
        events.reserveCapacity(256)
    }

    /// The recorder of the next stream of the same loaded model: its cold start and its warm-up calls are the same.
    public func next() -> TraceRecorder {
        let next = TraceRecorder(exactRows: exactRows, coldStart: coldStart)
        for call in warmUps {
            next.warmUps.append(call)
            next.inferences.add(call)
        }
        return next
    }

    public func callback(_ record: CallbackRecord) {
        if coldStart.firstCallbackNs == nil { coldStart.firstCallbackNs = record.timeNs }
        callbacks.add(record)
    }

    public func inference(_ record: DeviceTrace.Inference) {
        if coldStart.firstCallEndNs == 0 {
            coldStart.firstCallBeginNs = record.beginNs
            coldStart.firstCallEndNs = record.endNs
        }
        if record.warmUp == true {
            coldStart.warmUpCalls = (coldStart.warmUpCalls ?? 0) + 1
            warmUps.append(record)
        }
        inferences.add(record)
    }

    /// A stretch of the stream begins with a sample that was captured then.
    ///
    /// - Returns: how long after the stream's first sample that was.
    public func begin(_ timeNs: Int64) -> Int64 {
        let origin = originNs ?? timeNs
        originNs = origin
        return max(0, timeNs - origin)
    }

    /// First scores, or the first enhanced block after the model's delay.
    public func firstDecision(_ timeNs: Int64) {
        if coldStart.firstDecisionNs == nil { coldStart.firstDecisionNs = timeNs }
    }

    public func gap(_ kind: DeviceTrace.GapKind, samples: Int, rateHz: Int, policy: String, timeNs: Int64) {
        if hasRoom(gaps.count, timeNs) {
            gaps.append(DeviceTrace.Gap(timeNs: timeNs, kind: kind, samples: samples, rateHz: rateHz, policy: policy))
        }
    }

    public func thermal(_ state: DeviceTrace.Thermal.State, timeNs: Int64) {
        if hasRoom(thermal.count, timeNs) { thermal.append(DeviceTrace.Thermal(timeNs: timeNs, state: state)) }
    }

    public func route(_ route: DeviceTrace.Route) {
        if hasRoom(routes.count, route.timeNs) { routes.append(route) }
    }

    public func gain(_ gain: DeviceTrace.Gain) {
        if hasRoom(gains.count, gain.timeNs) { gains.append(gain) }
    }

    public func computeUnit(_ unit: DeviceTrace.ComputeUnit) { computeUnits.append(unit) }

    /// A finished event; one that still lasts is reported when it is over.
    public func event(_ event: SoundEvent, timeNs: Int64) {
        guard let at = event.emittedAtSample, let offset = event.offsetSample, hasRoom(events.count, timeNs) else { return }
        events.append(
            DeviceTrace.Event(
                label: event.label, index: event.index, onsetSample: event.onsetSample,
                offsetSample: offset, confidence: event.confidence, emittedAtSample: at,
                emittedAtNs: timeNs))
    }

    private func hasRoom(_ count: Int, _ timeNs: Int64) -> Bool {
        if count >= Self.most { truncatedAtNs = truncatedAtNs ?? timeNs }
        return count < Self.most
    }

    /// The finished trace.
    ///
    /// - Throws: `usage` if nothing was captured or computed, or route, thermal state or compute unit was never reported: no trace then.
    public func finish(
        app: DeviceTrace.App, device: DeviceTrace.Device, bundle: DeviceTrace.Model, audio: DeviceTrace.Audio,
        reason: DeviceTrace.EndReason, message: String? = nil, peakMemoryBytes: Int? = nil, timeNs: Int64
    ) throws -> DeviceTrace {
        guard !callbacks.isEmpty, !inferences.isEmpty else {
            throw HearpackError.usage("no trace yet: start the stream and let it hear at least one buffer")
        }
        guard !thermal.isEmpty, !routes.isEmpty, !computeUnits.isEmpty else {
            throw HearpackError.usage("a trace needs thermal state, route and compute unit at the start of the stream")
        }
        let refused = [truncatedAtNs, callbacks.refused?.timeNs, inferences.refused?.beginNs].compactMap { $0 }.min()
        return DeviceTrace(
            app: app, device: device, bundle: bundle, audio: audio, coldStart: coldStart,
            callbacks: callbacks.all.map(Self.row), inferences: inferences.all, gaps: gaps, thermal: thermal,
            routes: routes, gains: gains, computeUnits: computeUnits, events: events.isEmpty ? nil : events,
            end: DeviceTrace.End(
                timeNs: timeNs, reason: reason, message: message, callbacks: callbacks.count,
                inferences: inferences.count, peakMemoryBytes: peakMemoryBytes, truncatedAtNs: refused))
    }

    private static func row(_ record: CallbackRecord) -> DeviceTrace.Callback {
        let summed = record.count > 1
        return DeviceTrace.Callback(
            timeNs: record.timeNs, endNs: summed ? nil : record.endNs, frames: Int(record.frames),
            hardwareTimeNs: record.hardwareTimeNs < 0 ? nil : record.hardwareTimeNs,
            hardwareFrame: record.hardwareFrame < 0 ? nil : record.hardwareFrame,
            rateHz: record.rateHz > 0 ? Int(record.rateHz) : nil, lastTimeNs: summed ? record.lastTimeNs : nil,
            count: summed ? Int(record.count) : nil)
    }
}
