import Foundation

/// Collects a device trace while a stream runs, on the inference thread; memory is taken once, at init.
///
/// A trace holds what fits: `callbacks` and `inferences` are recorded until one of them is full (ten minutes of 8 ms
/// hops by default), and then no more, so that the counts in `end` are always those of the lists.
public final class TraceRecorder {
    public var coldStart = DeviceTrace.ColdStart()

    private var callbacks: [CallbackRecord] = []
    private var inferences: [DeviceTrace.Inference] = []
    private var gaps: [DeviceTrace.Gap] = []
    private var thermal: [DeviceTrace.Thermal] = []
    private var routes: [DeviceTrace.Route] = []
    private var gains: [DeviceTrace.Gain] = []
    private var computeUnits: [DeviceTrace.ComputeUnit] = []
    private var events: [DeviceTrace.Event] = []
    private let capacity: Int

    public init(capacity: Int = 75_000) {
        self.capacity = capacity
        callbacks.reserveCapacity(capacity)
        inferences.reserveCapacity(capacity)
        gaps.reserveCapacity(256)
        events.reserveCapacity(256)
    }

    private var full: Bool { callbacks.count >= capacity || inferences.count >= capacity }

    public func callback(_ record: CallbackRecord) {
        if coldStart.firstCallbackNs == nil { coldStart.firstCallbackNs = record.timeNs }
        if !full { callbacks.append(record) }
    }

    public func inference(_ record: DeviceTrace.Inference) {
        if inferences.isEmpty {
            coldStart.firstCallBeginNs = record.beginNs
            coldStart.firstCallEndNs = record.endNs
        }
        if record.warmUp == true { coldStart.warmUpCalls = (coldStart.warmUpCalls ?? 0) + 1 }
        if !full { inferences.append(record) }
    }

    /// First scores, or the first enhanced block after the model's delay.
    public func firstDecision(_ timeNs: Int64) {
        if coldStart.firstDecisionNs == nil { coldStart.firstDecisionNs = timeNs }
    }

    public func gap(_ kind: DeviceTrace.GapKind, samples: Int, rateHz: Int, policy: String, timeNs: Int64) {
        if gaps.count < 10_000 {
            gaps.append(DeviceTrace.Gap(timeNs: timeNs, kind: kind, samples: samples, rateHz: rateHz, policy: policy))
        }
    }

    public func thermal(_ state: DeviceTrace.Thermal.State, timeNs: Int64) {
        thermal.append(DeviceTrace.Thermal(timeNs: timeNs, state: state))
    }

    public func route(_ route: DeviceTrace.Route) { routes.append(route) }

    public func gain(_ gain: DeviceTrace.Gain) { gains.append(gain) }

    public func computeUnit(_ unit: DeviceTrace.ComputeUnit) { computeUnits.append(unit) }

    /// A finished event; one that still lasts is reported when it is over.
    public func event(_ event: SoundEvent, timeNs: Int64) {
        guard events.count < 10_000, let at = event.emittedAtSample, let offset = event.offsetSample else { return }
        events.append(
            DeviceTrace.Event(
                label: event.label, index: event.index, onsetSample: event.onsetSample,
                offsetSample: offset, confidence: event.confidence, emittedAtSample: at,
                emittedAtNs: timeNs))
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
        return DeviceTrace(
            app: app, device: device, bundle: bundle, audio: audio, coldStart: coldStart,
            callbacks: callbacks.map {
                DeviceTrace.Callback(
                    timeNs: $0.timeNs, endNs: $0.endNs, frames: Int($0.frames),
                    hardwareTimeNs: $0.hardwareTimeNs < 0 ? nil : $0.hardwareTimeNs,
                    hardwareFrame: $0.hardwareFrame < 0 ? nil : $0.hardwareFrame,
                    rateHz: $0.rateHz > 0 ? Int($0.rateHz) : nil)
            },
            inferences: inferences, gaps: gaps, thermal: thermal, routes: routes, gains: gains,
            computeUnits: computeUnits, events: events.isEmpty ? nil : events,
            end: DeviceTrace.End(
                timeNs: timeNs, reason: reason, message: message, callbacks: callbacks.count,
                inferences: inferences.count, peakMemoryBytes: peakMemoryBytes))
    }
}
