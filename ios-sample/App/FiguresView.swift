import HearpackKit
import SwiftUI

/// Latency, compute, cold start, self-check, and the trace to share.
struct FiguresSections: View {
    @ObservedObject var model: AppModel
    @ObservedObject var live: LiveFigures

    var body: some View {
        Section(say("Compute")) {
            FigureRow(name: say("Median"), value: Figure.ms(live.figures.computeP50Ms))
            FigureRow(name: say("95th percentile"), value: Figure.ms(live.figures.computeP95Ms))
            FigureRow(name: say("Too late"), value: say("%@ of %@", "\(live.figures.misses)", "\(live.figures.calls)"))
            FigureRow(name: say("Samples lost"), value: "\(live.figures.lostSamples)")
            FigureRow(name: say("Gaps in the capture"), value: "\(live.figures.captureGaps)")
            FigureRow(name: say("Samples that were no numbers"), value: "\(live.figures.nanSamples)")
            FigureRow(name: say("Samples limited"), value: "\(live.figures.limitedSamples)")
            FigureRow(name: say("Resets of the model"), value: "\(live.figures.nanOutputs)")
        }
        if let ledger = live.ledger { LedgerSections(ledger: ledger) }
        Section(say("Cold start")) {
            ColdRow(name: say("Bundle checked"), ns: live.coldStart.bundleCheckedNs)
            ColdRow(name: say("Model loaded"), ns: live.coldStart.modelLoadEndNs)
            ColdRow(name: say("First call done"), ns: live.coldStart.firstCallEndNs)
            ColdRow(name: say("First audio"), ns: live.coldStart.firstCallbackNs)
            ColdRow(name: say("First result"), ns: live.coldStart.firstDecisionNs)
            FigureRow(name: say("Compiled model"), value: compiled)
        }
        if !model.state.selfCheck.isEmpty {
            Section(say("Self-check against the bundle's golden vectors")) {
                ForEach(model.state.selfCheck, id: \.self) { line in Text(line).font(.footnote) }
            }
        }
        if let file = model.result?.traceFile {
            Section(say("Trace")) {
                ShareLink(say("Share the device trace"), item: file)
                    .accessibilityHint(say("For hearpack fit-device on a computer"))
                    .frame(minHeight: 44)
                Text(say("Times and figures only: no audio, no name, no serial number."))
                    .font(.footnote).foregroundStyle(.secondary)
            }
        }
    }

    private var compiled: String {
        switch live.coldStart.weightCache {
        case .cold: return say("made now")
        case .warm: return say("was there")
        default: return say("not yet")
        }
    }
}

/// Each column by itself: a number that was measured and one that is stated are never one.
struct LedgerSections: View {
    let ledger: LatencyLedger

    var body: some View {
        ForEach(LatencyLedger.Source.allCases, id: \.rawValue) { source in
            Section(title(source)) {
                ForEach(ledger.parts.filter { $0.source == source }, id: \.name) { part in
                    FigureRow(name: say(part.name.replacingOccurrences(of: "_", with: " ")), value: figure(part))
                }
                FigureRow(name: say("Sum"), value: Figure.ms(ledger.sum(source)))
            }
        }
        Section(say("Latency, the whole")) {
            FigureRow(name: say("Sum of all parts, median"), value: Figure.ms(ledger.totalMs))
            FigureRow(name: say("with the 95th percentiles"), value: Figure.ms(ledger.totalP95Ms))
        }
    }

    private func figure(_ part: LatencyLedger.Part) -> String {
        guard part.source == .measured, part.p95Ms > part.ms else { return Figure.ms(part.ms) }
        return say("%@, 95 %: %@", Figure.ms(part.ms), Figure.ms(part.p95Ms))
    }

    private func title(_ source: LatencyLedger.Source) -> String {
        switch source {
        case .exact: return say("Latency, exact")
        case .stated: return say("Latency, stated by the system")
        case .measured: return say("Latency, measured here (median)")
        }
    }
}

/// Time from process start.
struct ColdRow: View {
    let name: String
    let ns: Int64?

    var body: some View {
        FigureRow(name: name, value: ns.map { $0 > 0 ? Figure.ms(Double($0) / 1e6) : say("not yet") } ?? say("not yet"))
    }
}
