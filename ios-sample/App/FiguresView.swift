import HearpackKit
import SwiftUI

/// Latency, compute, cold start, self-check, and the trace to share.
struct FiguresSections: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section("Compute") {
            FigureRow(name: "Median", value: Format.ms(model.figures.computeP50Ms))
            FigureRow(name: "95th percentile", value: Format.ms(model.figures.computeP95Ms))
            FigureRow(name: "Too late", value: "\(model.figures.misses) of \(model.figures.calls)")
            FigureRow(name: "Samples lost", value: "\(model.figures.lostSamples)")
            FigureRow(name: "Samples that were no numbers", value: "\(model.figures.nanSamples)")
            FigureRow(name: "Samples limited", value: "\(model.figures.limitedSamples)")
            FigureRow(name: "Resets of the model", value: "\(model.figures.nanOutputs)")
        }
        if let ledger = model.ledger {
            ForEach(LatencyLedger.Source.allCases, id: \.rawValue) { source in
                Section(title(source)) {
                    ForEach(ledger.parts.filter { $0.source == source }, id: \.name) { part in
                        FigureRow(name: part.name.replacingOccurrences(of: "_", with: " "), value: Format.ms(part.ms))
                    }
                    FigureRow(name: "Sum", value: Format.ms(ledger.sum(source)))
                }
            }
            Section("Latency, the whole") { FigureRow(name: "Sum of all parts", value: Format.ms(ledger.totalMs)) }
        }
        Section("Cold start") {
            ColdRow(name: "Bundle checked", ns: model.coldStart.bundleCheckedNs)
            ColdRow(name: "Model loaded", ns: model.coldStart.modelLoadEndNs)
            ColdRow(name: "First call done", ns: model.coldStart.firstCallEndNs)
            ColdRow(name: "First audio", ns: model.coldStart.firstCallbackNs)
            ColdRow(name: "First result", ns: model.coldStart.firstDecisionNs)
            FigureRow(name: "Compiled model", value: model.coldStart.weightCache?.rawValue ?? "not yet")
        }
        if !model.state.selfCheck.isEmpty {
            Section("Self-check against the bundle's golden vectors") {
                ForEach(model.state.selfCheck, id: \.self) { line in Text(line).font(.footnote) }
            }
        }
        if let file = model.traceFile {
            Section("Trace") {
                ShareLink("Share the device trace", item: file)
                    .accessibilityHint("For hearpack fit-device on a computer")
                    .frame(minHeight: 44)
                Text("Times and figures only: no audio, no name, no serial number.").font(.footnote).foregroundStyle(.secondary)
            }
        }
    }

    private func title(_ source: LatencyLedger.Source) -> String {
        switch source {
        case .exact: return "Latency, exact"
        case .stated: return "Latency, stated by the system"
        case .measured: return "Latency, measured here (95th percentile)"
        }
    }
}

/// Time from process start.
struct ColdRow: View {
    let name: String
    let ns: Int64?

    var body: some View {
        FigureRow(name: name, value: ns.map { $0 > 0 ? Format.ms(Double($0) / 1e6) : "not yet" } ?? "not yet")
    }
}
