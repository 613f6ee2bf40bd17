import HearpackKit
import SwiftUI

@main
struct HearpackApp: App {
    @StateObject private var model = AppModel(clock: MonotonicClock())

    var body: some Scene {
        WindowGroup { RootView(model: model) }
    }
}

/// One screen a task: what the bundle is decides which.
struct RootView: View {
    @ObservedObject var model: AppModel

    var body: some View {
        NavigationStack {
            List {
                BundleSection(model: model)
                StatusSection(model: model)
                if model.state.asksHeadset != nil { HeadsetSection(model: model) }
                if model.state.task == .classifier {
                    ListenSections(model: model, live: model.live)
                } else if model.state.task != nil {
                    EnhanceSections(model: model, live: model.live)
                }
                FiguresSections(model: model, live: model.live)
            }
            .navigationTitle(model.state.task == .enhancer ? say("Enhance") : say("Listen"))
        }
        .task { model.open() }
    }
}

/// Which bundle runs, where several are installed.
struct BundleSection: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section(say("Bundle")) {
            ForEach(model.bundles, id: \.lastPathComponent) { folder in
                Button(printable(folder.deletingPathExtension().lastPathComponent)) { model.select(folder) }
                    .disabled(!model.state.canChoose)
                    .accessibilityHint(say("Loads this bundle"))
                    .frame(minHeight: 44)
            }
        }
    }
}

/// The question before anything is played where it might howl.
struct HeadsetSection: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section(say("Output")) {
            Text(HearpackText.headsetQuestion.said)
            Button(say("Headset")) { model.hearpack.answer(isHeadset: true) }.buttonStyle(.bordered).frame(minHeight: 44)
            Button(say("Loudspeaker")) { model.hearpack.answer(isHeadset: false) }.buttonStyle(.bordered).frame(minHeight: 44)
        }
    }
}

/// What goes on, what went wrong, and the one button.
struct StatusSection: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section(say("Status")) {
            HStack {
                if busy { ProgressView().accessibilityHidden(true) }
                Text(title).font(.headline).accessibilityAddTraits(.isHeader)
            }
            if !model.state.message.isEmpty { Text(model.state.message.said).font(.body) }
            if !model.state.detail.isEmpty { Text(model.state.detail).font(.footnote).foregroundStyle(.secondary) }
            ForEach(model.state.notices.map(\.said), id: \.self) { notice in
                Label(notice, systemImage: "exclamationmark.triangle").font(.callout)
            }
            if model.state.canStop {
                Button(say("Stop")) { model.hearpack.stop() }.buttonStyle(.bordered).frame(minHeight: 44)
            } else if model.state.phase == .needsSettings {
                if let settings = URL(string: "app-settings:") {
                    Link(say("Open Settings"), destination: settings).frame(minHeight: 44)
                }
                Button(say("Try again")) { model.start() }.buttonStyle(.bordered).frame(minHeight: 44)
            } else {
                Button(say("Start")) { model.start() }
                    .buttonStyle(.borderedProminent)
                    .disabled(!model.state.canStart)
                    .accessibilityHint(say("Begins to listen to the microphone"))
                    .frame(minHeight: 44)
            }
        }
    }

    private var busy: Bool {
        [.opening, .loading, .checking, .warmingUp, .starting, .stopping].contains(model.state.phase)
    }

    private var title: String {
        switch model.state.phase {
        case .opening: return say("Opening")
        case .loading: return say("Loading")
        case .checking: return say("Self-check")
        case .warmingUp: return say("Warming up")
        case .ready: return say("Ready")
        case .starting: return say("Starting")
        case .running: return say("Running")
        case .interrupted: return say("Paused")
        case .stopping: return say("Stopping")
        case .needsSettings: return say("No microphone")
        case .failed: return say("Not possible")
        }
    }
}
