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
                if model.state.task == .classifier {
                    ListenSections(model: model)
                } else if model.state.task != nil {
                    EnhanceSections(model: model)
                }
                FiguresSections(model: model)
            }
            .navigationTitle(model.state.task == .enhancer ? "Enhance" : "Listen")
        }
        .task { model.open() }
    }
}

/// Which bundle runs, where several are installed.
struct BundleSection: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section("Bundle") {
            ForEach(model.bundles, id: \.lastPathComponent) { folder in
                Button(folder.deletingPathExtension().lastPathComponent) { model.select(folder) }
                    .accessibilityHint("Loads this bundle")
                    .frame(minHeight: 44)
            }
        }
    }
}

/// What goes on, what went wrong, and the one button.
struct StatusSection: View {
    @ObservedObject var model: AppModel

    var body: some View {
        Section("Status") {
            HStack {
                if busy { ProgressView().accessibilityHidden(true) }
                Text(title).font(.headline).accessibilityAddTraits(.isHeader)
            }
            if !model.state.message.isEmpty { Text(model.state.message).font(.body) }
            if !model.state.notice.isEmpty {
                Label(model.state.notice, systemImage: "exclamationmark.triangle").font(.callout)
            }
            if model.state.canStop {
                Button("Stop") { model.send(.stopTapped) }.buttonStyle(.bordered).frame(minHeight: 44)
            } else if model.state.phase == .needsSettings {
                if let settings = URL(string: "app-settings:") {
                    Link("Open Settings", destination: settings).frame(minHeight: 44)
                }
                Button("Try again") { model.send(.retryTapped) }.buttonStyle(.bordered).frame(minHeight: 44)
            } else {
                Button("Start") { model.send(.startTapped) }
                    .buttonStyle(.borderedProminent)
                    .disabled(!model.state.canStart)
                    .accessibilityHint("Begins to listen to the microphone")
                    .frame(minHeight: 44)
            }
        }
    }

    private var busy: Bool {
        [.opening, .loading, .checking, .warmingUp, .starting].contains(model.state.phase)
    }

    private var title: String {
        switch model.state.phase {
        case .opening: return "Opening"
        case .loading: return "Loading"
        case .checking: return "Self-check"
        case .warmingUp: return "Warming up"
        case .ready: return "Ready"
        case .starting: return "Starting"
        case .running: return "Running"
        case .interrupted: return "Paused"
        case .needsSettings: return "No microphone"
        case .failed: return "Not possible"
        }
    }
}
